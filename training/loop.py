"""The loop: many steps per call, the device never waited for, only finite states saved."""

import time
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array

from rctaf_jax.errors import InputError

from .state import TrainState
from .step import NEVER, Data, Metrics, Settings

Advance = Callable[[TrainState, Data, Settings, int | Array], tuple[TrainState, Metrics]]
Report = Callable[[int, Metrics], None]
Save = Callable[[int, TrainState], None]

SECONDS_PER_CALL = 2.0
SECONDS_PER_SAVE = 60.0
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


def run(
    advance: Advance,
    state: TrainState,
    data: Data,
    settings: Settings,
    *,
    first_step: int,
    num_steps: int,
    report: Report,
    save: Save,
    seconds_per_save: float = SECONDS_PER_SAVE,
) -> TrainState:
    """Advance `state` from `first_step` to `num_steps`.

    A call does as many steps as take about two seconds; how steps are cut into calls changes no
    number. A call's metrics are read after the next one was dispatched, except before a save:
    `report` may raise, and what it has not seen is never saved.

    Args:
      advance: see `step.make_advance`, mapped over devices; it may reuse the state's buffers.
      state: with its leading device axis.
      data: on the devices.
      settings: traced numbers.
      first_step: steps already done.
      num_steps: steps of the whole run.
      report: `report(steps done, metrics)` for each call, in order.
      save: `save(steps done, state)`, now and then and at the end.
      seconds_per_save: the least time between two saves.

    Returns:
      The state at `num_steps`.
    """
    step, per_call, waiting = first_step, 1, None
    last_report = last_save = time.monotonic()
    while step < num_steps:
        count = min(per_call, num_steps - step)
        state, metrics = advance(state, data, settings, count)
        step += count
        if waiting is not None:
            report(*jax.device_get(waiting))
        waiting = (step, metrics)
        is_due = time.monotonic() - last_save >= seconds_per_save
        if is_due or step == num_steps:
            report(*jax.device_get(waiting))
            save(step, state)
            waiting, last_save = None, time.monotonic()
        now = time.monotonic()
        if now - last_report < SECONDS_PER_CALL / 2:
            per_call = min(2 * per_call, MOST_STEPS_PER_CALL)
        elif now - last_report > 2 * SECONDS_PER_CALL:
            per_call = max(per_call // 2, 1)
        last_report = now
    return state
