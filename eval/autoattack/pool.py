"""Running an attack on many examples, in slots that are filled again as soon as they are free.

A program has a fixed number of slots. An example leaves its slot when it is broken or has gone
through all runs and steps of the attack, and the next one takes its place: no slot works on an
example whose fate is known, and one compiled program serves examples at all stages.

On a CPU slots are few, since an image costs no less among many, and every core has slots of its
own, driven by a thread: XLA:CPU runs the program of a small network on one core.

Outcomes do not depend on the number of slots or devices, since examples never interact.
"""

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.eval.verdict import NetworkVariables
from rctaf_jax.threat_model import Scalar

from .attack import Attack, Examples, choose

Ask = Callable[[NetworkVariables, Float[Array, "B H W C"], Array], Float[Array, "B classes"]]

CHUNK = 10
"""Steps between two looks at what has finished; a look makes the host wait for the device."""
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


class Slots(NamedTuple):
    """What lies in the slots of one device; every array's first axis is theirs."""

    examples: Examples
    run: Int[Array, " B"]
    step: Int[Array, " B"]
    is_finished: Bool[Array, " B"]
    state: Any


class PoolPrograms(NamedTuple):
    """One attack on one kind of network, compiled at the first call for each number of slots.

    Attributes:
      attack: which.
      fill: (slots or None, examples, is_new [B], epsilon) to slots.
      advance: (variables, slots, epsilon) to slots, `CHUNK` steps later.
      compiled: numbers of slots that were asked for so far.
    """

    attack: Attack
    fill: Callable[..., Slots]
    advance: Callable[[NetworkVariables, Slots, Scalar], Slots]
    compiled: set[int]


def make_pool_programs(attack: Attack, ask: Ask) -> PoolPrograms:
    """Prepares an attack for all networks of one structure; nothing is compiled yet.

    Args:
      attack: what to run.
      ask: (variables, images, keys) to logits; a deterministic network ignores the keys.
    """

    def fill(slots: Slots | None, examples: Examples, is_new: Array, epsilon: Scalar) -> Slots:
        zero = jnp.zeros(is_new.shape, jnp.int32)
        new = Slots(examples, zero, zero, ~is_new, attack.start(examples, zero, epsilon))
        return new if slots is None else choose(is_new, new, slots)

    def step(variables: NetworkVariables, slots: Slots, epsilon: Scalar) -> Slots:
        def predict(images: Array, keys: Array) -> Array:
            return ask(variables, images, keys)

        with jax.default_matmul_precision("highest"):
            state = attack.step(predict, slots.examples, slots.step, epsilon, slots.state)
        outcome = choose(slots.is_finished, slots.state.outcome, state.outcome)
        state = state._replace(outcome=outcome)
        num_steps = jnp.where(slots.is_finished, slots.step, slots.step + 1)
        is_decided = outcome.is_broken | outcome.nonfinite
        is_over = (num_steps == attack.num_steps) & ~is_decided & ~slots.is_finished
        is_next = is_over & (slots.run + 1 < attack.num_runs)
        run = slots.run + is_next
        if attack.num_runs > 1:
            state = jax.lax.cond(
                is_next.any(),
                lambda: choose(is_next, attack.start(slots.examples, run, epsilon), state),
                lambda: state,
            )
        is_finished = slots.is_finished | is_decided | (is_over & ~is_next)
        return Slots(slots.examples, run, jnp.where(is_next, 0, num_steps), is_finished, state)

    return PoolPrograms(attack, jax.jit(fill, donate_argnums=0), _repeated(step), set())


def _repeated(step: Callable[..., Slots]) -> Callable[[NetworkVariables, Slots, Scalar], Slots]:
    """`CHUNK` steps: a loop on the device, but on the host where the device is a CPU.

    XLA:CPU's convolutions, which a network that is not one of ours will have, are several times
    slower inside a loop of its own.
    """
    single = jax.jit(step, donate_argnums=1)

    def on_host(variables: NetworkVariables, slots: Slots, epsilon: Scalar) -> Slots:
        for _ in range(CHUNK):
            slots = single(variables, slots, epsilon)
        return slots

    def on_device(variables: NetworkVariables, slots: Slots, epsilon: Scalar) -> Slots:
        return jax.lax.fori_loop(0, CHUNK, lambda _, slots: step(variables, slots, epsilon), slots)

    if jax.default_backend() == "cpu":
        return on_host
    return jax.jit(on_device, donate_argnums=1)


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
      batch_size: slots on each device, at most.
      devices: where to run; each has its own slots, all share the queue.
      cores: of a CPU, to keep busy; all that the process is given when None.

    Yields:
      Each example once, in groups, in no particular order.
    """
    queue = deque(pending)
    lanes = [
        _Lane(programs, variables, examples, epsilon, device)
        for device, count in lanes_of(devices, cores).items()
        for _ in range(count)
    ]
    share, width = -(-len(queue) // len(lanes)), min(batch_size, len(examples.images))
    if jax.default_backend() == "cpu":
        width = cpu_slots(share, width, programs.compiled)
        programs.compiled.add(width)
    for lane in lanes:
        lane.open(width, queue, share)
    # What was switched on for this thread alone must hold for those that do its work.
    is_x64 = bool(jax.config.read("jax_enable_x64"))

    def advance(lane: _Lane) -> None:
        with jax.enable_x64(is_x64):
            lane.advance()

    with ThreadPoolExecutor(len(lanes)) as threads:
        is_compiled = False
        while busy := [lane for lane in lanes if lane.is_busy]:
            if not is_compiled:  # once, not by every thread at the same time
                advance(busy[0])
                is_compiled, busy = True, busy[1:]
            list(threads.map(advance, busy))
            for lane in lanes:
                finished = lane.collect()
                if finished is not None:
                    yield finished
                lane.take(queue)


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
    """How many sets of slots each device has: a CPU's share the cores."""
    if jax.default_backend() != "cpu":
        return dict.fromkeys(devices, 1)
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return dict.fromkeys(devices, max((cores or 1) // len(devices), 1))


class _Lane:
    """One device: its slots, and whose they are (-1: nobody's)."""

    def __init__(
        self,
        programs: PoolPrograms,
        variables: NetworkVariables,
        examples: Examples,
        epsilon: Scalar,
        device: jax.Device,
    ) -> None:
        self.programs, self.examples, self.epsilon = programs, examples, epsilon
        self.device, self.variables = device, jax.device_put(variables, device)
        self.owner = np.zeros(0, np.int64)
        self.slots: Any = None

    @property
    def is_busy(self) -> bool:
        return bool((self.owner >= 0).any())

    def open(self, width: int, queue: deque[int], share: int) -> None:
        """Makes the slots, and fills as many as are this lane's share of the queue."""
        self.owner = np.full(width, -1)
        self.take(queue, share)

    def take(self, queue: deque[int], most: int | None = None) -> None:
        """Puts the next examples into free slots."""
        is_new = np.zeros(len(self.owner), bool)
        most = len(queue) if most is None else min(most, len(queue))
        for position in np.flatnonzero(self.owner < 0)[:most]:
            self.owner[position], is_new[position] = queue.popleft(), True
        if not is_new.any():
            return
        rows = np.where(is_new, self.owner, 0)
        chosen = jax.device_put(Examples(*(leaf[rows] for leaf in self.examples)), self.device)
        self.slots = self.programs.fill(self.slots, chosen, is_new, self.epsilon)

    def advance(self) -> None:
        """Some steps, to their end."""
        self.slots = self.programs.advance(self.variables, self.slots, self.epsilon)
        self.slots.is_finished.block_until_ready()

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
        return Finished(
            example,
            fetch(outcome.is_broken),
            fetch(outcome.nonfinite),
            fetch(outcome.adversarial),
            runs * self.programs.attack.num_steps + steps,
        )
