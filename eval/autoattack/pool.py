"""Running an attack on many examples, in slots that are filled again as soon as they are free.

An example leaves its slot when it is broken or has gone through all runs and steps of the attack,
and the next one takes its place: no slot works on an example whose fate is known.

On a CPU slots are few, since an image costs no less among many, and every core has slots of its
own, driven by a thread: XLA:CPU runs the program of a small network on one core.

Outcomes do not depend on the number of slots or devices, since examples never interact.
"""

import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.eval.verdict import NetworkVariables
from rctaf_jax.threat_model import Scalar

from .attack import Examples
from .slots import PoolPrograms

MOST_CPU_SLOTS = 16
"""Of each core; more are no cheaper for an image, and wait longer for each other."""
FIXED_COST = 2
"""Of a step on a CPU, in images: about what an empty one takes."""
WORTH_COMPILING = 1.15
"""A number of slots that is not compiled yet must promise this much over one that is."""


class Finished(NamedTuple):
    """Examples that an attack is done with, on the host.

    Attributes:
      example: which they are.
      is_broken, nonfinite: as in `attack.Outcome`; neither for those that withstood.
      adversarial: the misclassified image, the clean one where there is none.
      num_steps: steps that were taken, over all runs.
    """

    example: Int[np.ndarray, " n"]
    is_broken: Bool[np.ndarray, " n"]
    nonfinite: Bool[np.ndarray, " n"]
    adversarial: Float[np.ndarray, "n H W C"]
    num_steps: Int[np.ndarray, " n"]


def merged(groups: Sequence[Finished]) -> Finished:
    """One group of all examples of one or more."""
    return Finished(*(np.concatenate(parts) for parts in zip(*groups, strict=True)))


def attack_all(
    programs: PoolPrograms,
    variables: NetworkVariables,
    examples: Examples,
    pending: Sequence[int],
    *,
    epsilon: Scalar,
    batch_size: int,
    devices: Sequence[jax.Device],
    cores: int | None = None,
) -> Iterator[Finished]:
    """Attacks some examples of a dataset, and hands them out as their fates are known.

    Args:
      programs: of the attack and the network.
      variables: of the network.
      examples: of the whole dataset, on the host (the keys on any device).
      pending: which of them to attack, in this order.
      epsilon: radius of the threat model.
      batch_size: slots of each set, at most.
      devices: where to run; each has sets of its own (`lanes_of`), all share the queue.
      cores: of a CPU, to keep busy; all that the process is given when None.

    Yields:
      Each example once, in groups, in no particular order.
    """
    placed = {device: jax.device_put(variables, device) for device in devices}
    places = [device for device, count in lanes_of(devices, cores).items() for _ in range(count)]
    queues = [deque(pending[number :: len(places)]) for number in range(len(places))]
    lanes = [
        _Lane(programs, placed[device], examples, epsilon, device, queue)
        for device, queue in zip(places, queues, strict=True)
    ]
    share = -(-len(pending) // len(lanes))
    width = min(batch_size, -(-len(examples.images) // len(lanes)))
    if jax.default_backend() == "cpu":
        width = cpu_slots(share, min(batch_size, len(examples.images)), programs.compiled)
        programs.compiled.add(width)
    for lane in lanes:
        lane.open(width)
    # What was switched on for this thread alone must hold for those that do its work.
    is_x64 = bool(jax.config.read("jax_enable_x64"))

    def advance(lane: _Lane) -> _Lane:
        with jax.enable_x64(is_x64):
            return lane.advance()

    with ThreadPoolExecutor(len(lanes)) as threads:
        busy = [lane for lane in lanes if lane.is_busy]
        # The first steps compile: once, not by every thread at the same time.
        running = {threads.submit(advance, lane) for lane in busy[:1]}
        wait(running)
        running |= {threads.submit(advance, lane) for lane in busy[1:]}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for lane in (future.result() for future in done):
                finished = lane.collect()
                lane.take(lane.queue or max(queues, key=len))
                if lane.is_busy:
                    running.add(threads.submit(advance, lane))
                if finished is not None:
                    yield finished


def cpu_slots(share: int, most: int, compiled: Collection[int]) -> int:
    """How many slots a core should have for its share of the examples.

    So many that the last ones to come in fill them, or nearly so.

    Args:
      share: how many examples a core will have in its slots, one after another.
      most: slots at most.
      compiled: numbers of slots for which nothing has to be compiled.

    Example:
      >>> cpu_slots(10, 128, {}), cpu_slots(9, 128, {10}), cpu_slots(16, 128, {10})
      (10, 10, 16)
    """

    def cost(slots: int) -> float:
        return -(-share // slots) * (FIXED_COST + slots)

    choices = [min(slots, most) for slots in range(2, MOST_CPU_SLOTS + 1, 2)]
    best = min(choices, key=cost)
    ready = min((slots for slots in compiled if slots <= most), key=cost, default=best)
    return ready if cost(ready) <= WORTH_COMPILING * cost(best) else best


def lanes_of(devices: Sequence[jax.Device], cores: int | None = None) -> dict[jax.Device, int]:
    """How many sets of slots each device has.

    A CPU's share its cores. On another device one is at work while the host looks at the other.
    """
    if jax.default_backend() != "cpu":
        return dict.fromkeys(devices, 2)
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return dict.fromkeys(devices, max((cores or 1) // len(devices), 1))


class _Lane:
    """Slots of a device, and whose they are (-1: nobody's)."""

    def __init__(
        self,
        programs: PoolPrograms,
        variables: NetworkVariables,
        examples: Examples,
        epsilon: Scalar,
        device: jax.Device,
        queue: deque[int],
    ) -> None:
        self.programs, self.examples, self.epsilon = programs, examples, epsilon
        self.device, self.variables, self.queue = device, variables, queue
        self.owner = np.zeros(0, np.int64)
        self.slots: Any = None

    @property
    def is_busy(self) -> bool:
        return bool((self.owner >= 0).any())

    def open(self, width: int) -> None:
        """Makes the slots, and fills them from this lane's queue."""
        self.owner = np.full(width, -1)
        self.take(self.queue)

    def take(self, queue: deque[int]) -> None:
        """Puts the next examples into free slots."""
        is_new = np.zeros(len(self.owner), bool)
        for position in np.flatnonzero(self.owner < 0)[: len(queue)]:
            self.owner[position], is_new[position] = queue.popleft(), True
        if not is_new.any():
            return
        rows = np.where(is_new, self.owner, 0)
        chosen = jax.device_put(Examples(*(leaf[rows] for leaf in self.examples)), self.device)
        if self.slots is None:
            self.slots = jax.device_put(self.programs.empty(chosen), self.device)
        self.slots = self.programs.fill(self.slots, chosen, is_new, self.epsilon)

    def advance(self) -> Self:
        """Some steps, to their end."""
        self.slots = self.programs.advance(self.variables, self.slots, self.epsilon)
        self.slots.is_finished.block_until_ready()
        return self

    def collect(self) -> Finished | None:
        """Takes finished examples out of their slots, if there are any."""
        if not self.is_busy:
            return None
        is_done = np.asarray(self.slots.is_finished) & (self.owner >= 0)
        positions = np.flatnonzero(is_done)
        if not len(positions):
            return None
        outcome, example = self.slots.state.outcome, self.owner[positions]
        self.owner[positions] = -1

        def fetch(leaf: Array) -> Any:
            return np.asarray(leaf)[positions]

        runs, steps = fetch(self.slots.run).astype(np.int64), fetch(self.slots.step)
        is_broken = fetch(outcome.is_broken)
        adversarial = np.array(self.examples.images[example])
        adversarial[is_broken] = fetch(outcome.adversarial)[is_broken]
        return Finished(
            example,
            is_broken,
            fetch(outcome.nonfinite),
            adversarial,
            runs * self.programs.attack.num_steps + steps,
        )
