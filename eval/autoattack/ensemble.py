"""Attacks one after another: what each is given, and what is known of every image in between."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from rctaf_jax.eval.verdict import ImageVerdict, NetworkVariables
from rctaf_jax.threat_model import Scalar

from .attack import Attack, Examples
from .pool import Finished, attack_all
from .slots import PoolPrograms
from .store import Store


class AttackReport(NamedTuple):
    """What one attack did.

    Attributes:
      name: such as `apgd-t`.
      attacked: the images it was run on.
      robust: those of them that withstood it, with finite logits all the way.
      broken: those of them that it broke.
      accuracy: share of all images that withstood it and all before it; it alone, where every
          attack runs on all images.
      seconds: on the clock, those of earlier calls that this one went on from included.
      forward_passes, backward_passes: of the network, summed over the attacked images.
    """

    name: str
    attacked: Bool[np.ndarray, " N"]
    robust: Bool[np.ndarray, " N"]
    broken: Bool[np.ndarray, " N"]
    accuracy: float
    seconds: float
    forward_passes: int
    backward_passes: int


class AttackProgress(NamedTuple):
    """How far an ensemble is.

    Attributes:
      attack: name of the attack under way.
      number, num_attacks: which one it is, from 1, and how many there are.
      num_done, num_examples: images that it is done with, and all that it has to do.
      robust_accuracy: of the ensemble, so far.
      robust: which of all images are correct, and have withstood all so far.
    """

    attack: str
    number: int
    num_attacks: int
    num_done: int
    num_examples: int
    robust_accuracy: float
    robust: Bool[np.ndarray, " N"]


class Fates(NamedTuple):
    """What is known of each image; the arrays are changed in place as attacks go on.

    Attributes:
      robust: correct so far.
      nonfinite: had logits that are NaN or infinite.
      adversarial: a misclassified allowed image where there is one, else the clean one.
    """

    robust: Bool[np.ndarray, " N"]
    nonfinite: Bool[np.ndarray, " N"]
    adversarial: Float[np.ndarray, "N H W C"]


class EnsembleSetting(NamedTuple):
    """What all attacks of an ensemble are given.

    Attributes:
      variables: of the network.
      examples: all images, on the host.
      epsilon: radius of the threat model.
      batch_size: images at a time on each of the devices.
      individual: whether each attack runs on all correct images, or on what withstood so far.
    """

    variables: NetworkVariables
    examples: Examples
    epsilon: Scalar
    batch_size: int
    devices: Sequence[jax.Device]
    individual: bool


def run_all(
    programs: Sequence[PoolPrograms],
    setting: EnsembleSetting,
    clean: ImageVerdict,
    store: Store,
    progress: Callable[[AttackProgress], None],
) -> tuple[Fates, list[AttackReport]]:
    """Runs every attack, from where the store says that earlier calls stopped.

    Args:
      programs: of the attacks, in order.
      setting: what they are given.
      clean: the network's verdict on the clean images.
      store: what is done, and where more of it is kept.
      progress: called whenever an attack is done with some images.
    """
    correct = np.asarray(clean.correct)
    nonfinite, images = np.array(clean.nonfinite), np.array(setting.examples.images)
    fates = Fates(correct.copy(), nonfinite, images)
    reports: list[AttackReport] = []
    for number, program in enumerate(programs, 1):
        name = program.attack.name
        # Where an attack met no finite answer, another may break the image with one.
        attacked = correct if setting.individual else correct & (fates.robust | fates.nonfinite)
        groups: list[tuple[Finished, float]] = []
        num_done = 0
        for group in _groups(program, f"{number}-{name}", setting, attacked, store):
            groups.append(group)
            _record(fates, group[0])
            num_done += len(group[0].example)
            known = fates.robust.copy()
            counts = (number, len(programs), num_done, int(attacked.sum()))
            progress(AttackProgress(name, *counts, float(known.mean()), known))
        left = None if setting.individual else float(fates.robust.mean())
        reports.append(_report(program.attack, attacked, groups, left))
    return fates, reports


def _groups(
    program: PoolPrograms,
    place: str,
    setting: EnsembleSetting,
    attacked: Bool[np.ndarray, " N"],
    store: Store,
) -> Iterator[tuple[Finished, float]]:
    """Images that an attack is done with, those of earlier calls first, and the seconds taken."""
    is_pending = attacked.copy()
    for finished, seconds in store.load(place, setting.examples.images.shape[1:]):
        is_pending[finished.example] = False
        yield finished, seconds
    since = time.monotonic()
    todo = np.flatnonzero(is_pending).tolist()
    try:
        for finished in attack_all(
            program,
            setting.variables,
            setting.examples,
            todo,
            epsilon=setting.epsilon,
            batch_size=setting.batch_size,
            devices=setting.devices,
        ):
            store.add(place, finished)
            now = time.monotonic()
            yield finished, now - since
            since = now
    finally:  # interrupted or not, what is done is kept
        store.flush()


def _record(fates: Fates, finished: Finished) -> None:
    """The first break decides, even where each attack runs on all correct images."""
    index = finished.example
    is_first = finished.is_broken & (fates.robust[index] | fates.nonfinite[index])
    is_nonfinite = finished.nonfinite & fates.robust[index]
    fates.adversarial[index[is_first]] = finished.adversarial[is_first]
    fates.robust[index[finished.is_broken | finished.nonfinite]] = False
    fates.nonfinite[index[is_nonfinite]] = True
    fates.nonfinite[index[finished.is_broken]] = False


def _report(
    attack: Attack,
    attacked: Bool[np.ndarray, " N"],
    groups: Sequence[tuple[Finished, float]],
    left: float | None,
) -> AttackReport:
    """What an attack did; `left` is the share that is robust after it, None for it alone."""
    robust, broken = attacked.copy(), np.zeros_like(attacked)
    num_steps, seconds = 0, 0.0
    for finished, group_seconds in groups:
        broken[finished.example] = finished.is_broken
        robust[finished.example] = ~(finished.is_broken | finished.nonfinite)
        num_steps += int(finished.num_steps.sum())
        seconds += group_seconds
    passes = (num_steps * attack.forward_passes, num_steps * attack.backward_passes)
    accuracy = float(robust.mean()) if left is None else left
    return AttackReport(attack.name, attacked, robust, broken, accuracy, seconds, *passes)
