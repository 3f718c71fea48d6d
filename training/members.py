"""Networks that differ in alpha or seed, trained by one compiled program.

Members are stacked on a device (`vmap`) and spread over devices (`pmap`, gradients not averaged).
On the CPU a stack of 4 or 16 takes as long per member as one member after another (resnet-mini,
`benchmarks/sweep_members.py`), so there a device takes one at a time: an interruption loses less.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax import parallel

from .batches import DeviceData
from .checkpoint import Checkpoints
from .loop import Advance, run_steps
from .state import TrainState
from .step import NEVER, Metrics
from .trainer import Trainer

STACK_ON_ACCELERATORS = 8


class Member(NamedTuple):
    """What tells members of one family apart; alpha is None for a baseline."""

    seed: int
    alpha: float | None


class TrainedMember(NamedTuple):
    """A member after training; `first_bad_step` is None if every loss was finite."""

    state: TrainState
    first_bad_step: int | None


def members_per_device() -> int:
    """How many members a device trains at once."""
    return 1 if jax.default_backend() == "cpu" else STACK_ON_ACCELERATORS


def map_members(trainer: Trainer, devices: Sequence[jax.Device], per_device: int) -> Advance:
    """The trainer's `advance` over a leading axis of devices and, if stacked, one of members."""
    advance = trainer.advance
    if per_device > 1:
        advance = jax.vmap(advance, in_axes=(0, None, None, None))
    return parallel.data_parallel(advance, devices, num_arguments=4, shared=(1, 2, 3))


def stack(
    states: Sequence[TrainState], devices: Sequence[jax.Device], per_device: int
) -> TrainState:
    """Lay states out as [devices, members] (or [devices]); places left over repeat the last one."""
    places = len(devices) * per_device
    padded = [*states, *[states[-1]] * (places - len(states))]
    shape = (len(devices), per_device) if per_device > 1 else (len(devices),)
    return parallel.place_slices(
        jax.tree.map(lambda *leaf: jnp.stack(leaf).reshape(*shape, *leaf[0].shape), *padded),
        devices,
    )


def unstack(stacked: TrainState, num_members: int, per_device: int) -> list[TrainState]:
    """The members of a stack, as host arrays."""
    lead = 2 if per_device > 1 else 1
    host = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[lead:]), jax.device_get(stacked))
    return [jax.tree.map(lambda leaf, i=i: leaf[i], host) for i in range(num_members)]


def train_members(
    trainer: Trainer,
    advance: Advance,
    members: Sequence[Member],
    data: DeviceData,
    *,
    devices: Sequence[jax.Device],
    per_device: int,
    checkpoints: Checkpoints,
    report: Callable[[int, Metrics], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> list[TrainedMember]:
    """Train a group of members from the newest checkpoint of the group, if there is one.

    A member whose loss is not finite goes on, to no avail, until the others are done.

    Args:
      trainer: of the members' family.
      advance: from `map_members`, the same for every group of the family.
      members: at most `len(devices) * per_device`.
      data: the training split.
      devices: where they train.
      per_device: how many share a device.
      checkpoints: of this group.
      report: told of each call's steps and metrics, leading axes as in the stack.
      should_stop: asked after each call.

    Raises:
      Preempted: if `should_stop` said so, after a save.
    """
    first_bad = np.full(len(members), NEVER, np.int32)

    def watch(step: int, metrics: Metrics) -> None:
        nonlocal first_bad
        bad = metrics.first_bad_step.ravel()[: len(members)]
        first_bad = np.minimum(first_bad, bad)
        report(step, metrics)

    def save(step: int, state: TrainState) -> None:
        # The last state is the caller's to keep.
        if step < trainer.num_steps:
            checkpoints.save(step, {"states": state, "first_bad": first_bad})

    states = stack([trainer.initial(m.seed, m.alpha) for m in members], devices, per_device)
    first_step = checkpoints.latest or 0
    if first_step:
        kept = checkpoints.restore({"states": states, "first_bad": first_bad})
        states, first_bad = kept["states"], np.array(kept["first_bad"])
    states = run_steps(
        advance,
        states,
        data,
        trainer.settings,
        first_step=first_step,
        num_steps=trainer.num_steps,
        report=watch,
        save=save,
        should_stop=should_stop,
    )
    steps = [None if step == NEVER else int(step) for step in first_bad]
    return list(map(TrainedMember, unstack(states, len(members), per_device), steps))
