"""A block of the images, attacked elsewhere: what is sent there, and what comes back.

Whoever shares out the images keeps a `Ledger` of all; whoever is sent a block has nothing but it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt

from rctaf_jax.eval.verdict import ImageVerdict, LogitsFn, NetworkVariables

from .attack import Attack, Examples
from .ensemble import (
    AttackProgress,
    EnsembleSetting,
    attacks_in_turn,
    fates_of_clean,
    place_of,
)
from .networks import AttackedNetwork
from .pool import Finished, merged
from .slots import make_pool_programs
from .store import Ledger

SLOTS_TURNS = 4
"""Images of a block for each slot: so many turns keep most slots filled to the end."""
SEND_SECONDS = 1.0
"""What is finished within so much time is sent at once; a lost worker loses no more of it."""


class Known(NamedTuple):
    """What each of K attacks did to each of N images so far; changed in place.

    Attributes:
      correct: whether the clean image is classified correctly.
      individual: whether each attack runs on all correct images.
      is_done: the attack is done with the image.
      is_broken, nonfinite: what came of it.
    """

    correct: Bool[np.ndarray, " N"]
    individual: bool
    is_done: Bool[np.ndarray, "K N"]
    is_broken: Bool[np.ndarray, "K N"]
    nonfinite: Bool[np.ndarray, "K N"]

    def record(self, number: int, finished: Finished) -> None:
        """Takes in what the `number`th attack, from 0, is done with."""
        self.is_done[number, finished.example] = True
        self.is_broken[number, finished.example] = finished.is_broken
        self.nonfinite[number, finished.example] = finished.nonfinite

    def attacked(self, number: int) -> Bool[np.ndarray, " N"]:
        """The images of the `number`th attack, as far as those before it are done."""
        before = 0 if self.individual else number
        return self.correct & ~self.is_broken[:before].any(axis=0)

    def unfinished(self) -> Bool[np.ndarray, " N"]:
        """The images that some attack still has to do."""
        numbers = range(len(self.is_done))
        return np.any([self.attacked(k) & ~self.is_done[k] for k in numbers], axis=0)

    def progress(self, number: int, attacks: Sequence[Attack]) -> AttackProgress:
        """How far the `number`th attack is."""
        attacked = self.attacked(number)
        robust = self.correct & ~(self.is_broken | self.nonfinite).any(axis=0)
        return AttackProgress(
            attacks[number].name,
            number + 1,
            len(attacks),
            int((attacked & self.is_done[number]).sum()),
            int(attacked.sum()),
            float(robust.mean()),
            robust,
        )


def known_of(
    attacks: Sequence[Attack], setting: EnsembleSetting, clean: ImageVerdict, store: Ledger
) -> Known:
    """What a ledger says of all images."""
    images = setting.examples.images
    nothing = np.zeros((3, len(attacks), len(images)), bool)
    known = Known(np.asarray(clean.correct), setting.individual, *nothing)
    for number, attack in enumerate(attacks):
        for finished, _ in store.load(place_of(number + 1, attack), images.shape[1:]):
            known.record(number, finished)
    return known


class Block(NamedTuple):
    """Some of all images, in values that any process understands.

    Attributes:
      example: which they are.
      images, labels, clean_logits: as in `attack.Examples`.
      keys: words of their keys.
      nonfinite: of the clean images.
      known: of these images alone.
    """

    example: Int[np.ndarray, " B"]
    images: Float[np.ndarray, "B H W C"]
    labels: Int[np.ndarray, " B"]
    keys: UInt[np.ndarray, "B 2"]
    clean_logits: Float[np.ndarray, "B C"]
    nonfinite: Bool[np.ndarray, " B"]
    known: Known


def block_of(
    example: Int[np.ndarray, " B"], examples: Examples, clean: ImageVerdict, known: Known
) -> Block:
    """Some of all examples, with what is known of them."""
    words = jax.random.key_data(examples.keys)
    leaves = (examples.images, examples.labels, words, examples.clean_logits, clean.nonfinite)
    images, labels, keys, logits, nonfinite = (np.asarray(leaf)[example] for leaf in leaves)
    correct, individual, *flags = known
    part = Known(correct[example], individual, *(flag[:, example] for flag in flags))
    return Block(example, images, labels, keys, logits, nonfinite, part)


def split(
    pending: Int[np.ndarray, " n"], *, slots: int, num_devices: int
) -> list[Int[np.ndarray, " B"]]:
    """Blocks of about equal size: several turns of a device's slots, or each device's share.

    None is of one image, if there are more: a program of one slot multiplies by other means, and
    so rounds otherwise, than those of two or more.

    Args:
      pending: images that are not finished.
      slots: of a device.
      num_devices: that will work at the same time.

    Example:
      >>> [len(block) for block in split(np.arange(100), slots=8, num_devices=2)]
      [25, 25, 25, 25]
      >>> [len(block) for block in split(np.arange(5), slots=8, num_devices=4)]
      [3, 2]
    """
    size = min(SLOTS_TURNS * slots, -(-len(pending) // num_devices))
    most = max(len(pending) // 2, 1)
    return np.array_split(pending, min(-(-len(pending) // size), most))


class Job(NamedTuple):
    """What is the same for all blocks.

    Attributes:
      logits_fn, variables: the network, as for `make_autoattack`.
      search: what an accelerator searches with, likewise; None for the network itself.
      attacks: in their order.
      epsilon: radius of the threat model.
      batch_size: slots at most.
    """

    logits_fn: LogitsFn
    search: LogitsFn | None
    variables: NetworkVariables
    attacks: tuple[Attack, ...]
    epsilon: float
    batch_size: int


def make_attack_block(
    job: Job, device: jax.Device, cores: int | None
) -> Callable[[Block], Iterator[tuple[int, Finished]]]:
    """Makes a function that attacks one block after another by the same compiled programs.

    Args:
      job: what to do.
      device: where.
      cores: of a CPU, as in `EnsembleSetting`.

    Returns:
      A function of a `Block`, which yields groups of its images (by their places among all) and
      the number, from 0, of the attack that is done with them.
    """

    search = None if jax.default_backend() == "cpu" else job.search
    network = AttackedNetwork(job.logits_fn, search, is_random=False)
    programs = [make_pool_programs(one, network.decide, network.search) for one in job.attacks]

    def attack_block(block: Block) -> Iterator[tuple[int, Finished]]:
        examples, clean = _opened(block)
        given = network.given(job.variables, np.asarray(examples.images), examples.keys)
        individual = block.known.individual
        setting = EnsembleSetting(
            given, examples, job.epsilon, job.batch_size, [device], individual, cores
        )
        relay = _Relay(job.attacks, block)
        fates = fates_of_clean(setting, clean)
        for _, groups in attacks_in_turn(programs, setting, clean, fates, relay):
            for _ in groups:
                yield from relay.due()
        yield from relay.rest()

    return attack_block


def _opened(block: Block) -> tuple[Examples, ImageVerdict]:
    sent: Any = block
    keys = jax.random.wrap_key_data(sent.keys, impl="threefry2x32")
    examples = Examples(sent.images, sent.labels, keys, sent.clean_logits)
    return examples, ImageVerdict(sent.known.correct, sent.nonfinite)


class _Relay:
    """Stands for the store, far from it: loads what a block tells, hands on what is added."""

    def __init__(self, attacks: Sequence[Attack], block: Block) -> None:
        self._block = block
        self._numbers = {place_of(k + 1, attack): k for k, attack in enumerate(attacks)}
        self._waiting: dict[str, list[Finished]] = {}
        self._since = time.monotonic()

    def load(self, attack: str, image_shape: tuple[int, ...]) -> Iterator[tuple[Finished, float]]:
        """What decides which images an attack is given; how, is not known here."""
        known, number = self._block.known, self._numbers[attack]
        done = np.flatnonzero(known.is_done[number])
        if len(done):
            flags = (known.is_broken[number, done], known.nonfinite[number, done])
            yield Finished(done, *flags, self._block.images[done], np.zeros_like(done)), 0.0

    def add(self, attack: str, finished: Finished) -> None:
        self._waiting.setdefault(attack, []).append(finished)

    def flush(self) -> None:
        """Nothing: `rest` hands it on."""

    def due(self) -> Iterator[tuple[int, Finished]]:
        """What waits, if it has waited long enough."""
        if time.monotonic() - self._since > SEND_SECONDS:
            yield from self.rest()

    def rest(self) -> Iterator[tuple[int, Finished]]:
        """What waits."""
        waiting, self._waiting, self._since = self._waiting, {}, time.monotonic()
        for attack, groups in waiting.items():
            finished = merged(groups)
            example = self._block.example[finished.example]
            yield self._numbers[attack], finished._replace(example=example)
