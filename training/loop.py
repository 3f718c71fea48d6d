"""The loop: many steps per call, the device never waited for, only finite states saved."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Array

from rctaf_jax import parallel
from rctaf_jax.errors import InputError, Preempted

from .batches import DeviceData
from .state import TrainState
from .step import NEVER, Metrics, TracedNumbers

Advance = Callable[[TrainState, DeviceData, TracedNumbers, int | Array], tuple[TrainState, Metrics]]
ReportMetrics = Callable[[int, Metrics], None]
SaveState = Callable[[int, TrainState], None]
AfterEpoch = Callable[[int, TrainState], bool]

SECONDS_PER_CALL = 2.0
SECONDS_BETWEEN_SAVES = 60.0
MOST_STEPS_PER_CALL = 1024


class DivergedError(InputError):
    """The loss stopped being finite; `step` is the first step that saw it."""

    def __init__(self, step: int, advice: str) -> None:
        super().__init__(f"the loss is not finite at step {step}: {advice}")
        self.step = step


def check_finite(metrics: Metrics, advice: str) -> None:
    """Stop a run whose loss is not finite.

    Raises:
      DivergedError: if any loss behind `metrics` was not finite.
    """
    first = int(np.min(metrics.first_bad_step))
    if first < NEVER:
        raise DivergedError(first, advice)


class Decision(NamedTuple):
    """What follows a call: how many steps the next one does, whether to save, whether to stop."""

    next_count: int
    save: bool
    stop: bool


def agree(wish: Decision) -> Decision:
    """One decision for all processes: the first one's count, and what any one wishes.

    Clocks differ, and processes that took different numbers of steps would wait for one another
    for ever.
    """
    wishes = parallel.gather_processes(np.asarray(wish, np.int32))
    return Decision(int(wishes[0, 0]), bool(wishes[:, 1].any()), bool(wishes[:, 2].any()))


def run_steps(
    advance: Advance,
    state: TrainState,
    data: DeviceData,
    settings: TracedNumbers,
    *,
    first_step: int,
    num_steps: int,
    report: ReportMetrics,
    save: SaveState,
    seconds_per_save: float = SECONDS_BETWEEN_SAVES,
    should_stop: Callable[[], bool] = lambda: False,
    epoch_steps: int | None = None,
    after_epoch: AfterEpoch = lambda *_: False,
) -> TrainState:
    """Advance `state` from `first_step` to `num_steps`, or to an epoch that is enough.

    A call does as many steps as take about two seconds; how steps are cut into calls changes no
    number. A call's metrics are read after the next one was dispatched, except when an epoch ends
    and before a save: `report` may raise, and what it has not seen is never saved.

    Args:
      advance: see `step.make_advance`, mapped over devices; it may reuse the state's buffers.
      state: with its leading device axis.
      data: on the devices.
      settings: traced numbers.
      first_step: steps already done.
      num_steps: steps of the whole run.
      report: `report(steps done, metrics)` for each call, in order; the metrics are host arrays
        of this process's devices.
      save: `save(steps done, state)`, now and then and at the end.
      seconds_per_save: the least time between two saves.
      should_stop: asked after each call.
      epoch_steps: steps of an epoch, with which a call ends; the whole run when left out.
      after_epoch: `after_epoch(steps done, state)` once an epoch is reported and before its save;
        training ends there, and is saved, where it says so, to all processes alike.

    Returns:
      The state after the last step.

    Raises:
      Preempted: if `should_stop` said so, after a save.
    """
    step, per_call, waiting, is_enough = first_step, 1, None, False
    epoch_steps = epoch_steps or num_steps
    last_call = last_save = time.monotonic()
    while step < num_steps and not is_enough:
        count = min(per_call, num_steps - step, epoch_steps - step % epoch_steps)
        state, metrics = advance(state, data, settings, count)
        step += count
        if waiting is not None:
            report(waiting[0], parallel.local(waiting[1]))
        waiting = (step, metrics)
        now = time.monotonic()
        is_due = now - last_save >= seconds_per_save
        decision = agree(Decision(adapted(per_call, now - last_call), is_due, should_stop()))
        per_call, last_call = decision.next_count, now
        ends_epoch, is_last = step % epoch_steps == 0, step == num_steps
        if not (ends_epoch or is_last or decision.save or decision.stop):
            continue
        report(waiting[0], parallel.local(waiting[1]))
        # Before the save: what goes on from there never repeats it.
        is_enough = ends_epoch and after_epoch(step, state)
        if is_enough or is_last or decision.save or decision.stop:
            save(step, state)
            last_save = time.monotonic()
        waiting, last_call = None, time.monotonic()
        if decision.stop and not (is_enough or is_last):
            raise Preempted(step)
    return state


def adapted(count: int, seconds: float) -> int:
    """Steps of the next call, given what the last one took."""
    if seconds < SECONDS_PER_CALL / 2:
        return min(2 * count, MOST_STEPS_PER_CALL)
    return max(count // 2, 1) if seconds > 2 * SECONDS_PER_CALL else count
