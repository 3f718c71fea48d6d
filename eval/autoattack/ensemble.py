"""Attacks one after another: what each is given, and what is known of every image in between."""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from rctaf_jax.eval.verdict import ImageVerdict, NetworkVariables
from rctaf_jax.threat_model import Scalar

from .across import share_of, with_others
from .attack import Attack, Examples
from .pool import Finished, attack_all
from .slots import PoolPrograms
from .store import Ledger


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
      cores: of a CPU, that this process may keep busy; all that it is given when None.
    """

    variables: NetworkVariables
    examples: Examples
    epsilon: Scalar
    batch_size: int
    devices: Sequence[jax.Device]
    individual: bool
    cores: int | None = None


def run_all(
    programs: Sequence[PoolPrograms],
    setting: EnsembleSetting,
    clean: ImageVerdict,
    store: Ledger,
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
    fates = fates_of_clean(setting, clean)
    reports: list[AttackReport] = []
    turns = attacks_in_turn(programs, setting, clean, fates, store)
    turned = zip(programs, turns, strict=True)
    for number, (program, (attacked, finished_groups)) in enumerate(turned, 1):
        name = program.attack.name
        groups: list[tuple[Finished, float]] = []
        num_done, num_attacked = 0, int(attacked.sum())
        with contextlib.closing(finished_groups):  # whatever ends it, what is done is kept
            for group in finished_groups:
                groups.append(group)
                num_done += len(group[0].example)
                known = fates.robust.copy()
                counts = (number, len(programs), num_done, num_attacked)
                progress(AttackProgress(name, *counts, float(known.mean()), known))
        left = None if setting.individual else float(fates.robust.mean())
        reports.append(_report(program.attack, attacked, groups, left))
    return fates, reports


Engine = Callable[
    [
        Sequence[PoolPrograms],
        EnsembleSetting,
        ImageVerdict,
        Ledger,
        Callable[[AttackProgress], None],
    ],
    tuple[Fates, list[AttackReport]],
]
"""What `run_all` is: it runs an ensemble, here or elsewhere."""


def place_of(number: int, attack: Attack) -> str:
    """Where the `number`th attack, from 1, keeps what it is done with."""
    return f"{number}-{attack.name}"


def fates_of_clean(setting: EnsembleSetting, clean: ImageVerdict) -> Fates:
    """What is known before any attack."""
    images = np.array(setting.examples.images)
    return Fates(np.array(clean.correct), np.array(clean.nonfinite), images)


def attacks_in_turn(
    programs: Sequence[PoolPrograms],
    setting: EnsembleSetting,
    clean: ImageVerdict,
    fates: Fates,
    store: Ledger,
) -> Iterator[tuple[Bool[np.ndarray, " N"], Generator[tuple[Finished, float]]]]:
    """Each attack's images, and what it does with them, which `fates` follows.

    Args:
      programs, setting, clean, store: as for `run_all`.
      fates: of the clean images; the second part of each turn must be taken before the next turn.
    """
    correct = np.asarray(clean.correct)
    for number, program in enumerate(programs, 1):
        # Where an attack met no finite answer, another may break the image with one.
        attacked = correct if setting.individual else correct & (fates.robust | fates.nonfinite)
        place = place_of(number, program.attack)
        yield attacked, _groups(program, place, setting, attacked, fates, store)


def _groups(
    program: PoolPrograms,
    place: str,
    setting: EnsembleSetting,
    attacked: Bool[np.ndarray, " N"],
    fates: Fates,
    store: Ledger,
) -> Generator[tuple[Finished, float]]:
    """Images that an attack is done with, those of earlier calls first, and the seconds taken."""
    is_pending = attacked.copy()
    for finished, seconds in store.load(place, setting.examples.images.shape[1:]):
        is_pending[finished.example] = False
        _record(fates, finished)
        yield finished, seconds
    since = time.monotonic()
    mine = share_of(np.flatnonzero(is_pending).tolist())
    own = attack_all(
        program,
        setting.variables,
        setting.examples,
        mine,
        epsilon=setting.epsilon,
        batch_size=setting.batch_size,
        devices=setting.devices,
        cores=setting.cores,
    )
    try:
        for finished in with_others(own):
            store.add(place, finished)
            _record(fates, finished)
            now = time.monotonic()
            yield finished, now - since
            since = now
    finally:
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
