"""A stream of terms, which ends when the metric's interval is narrow enough.

Stopping as soon as an interval looks narrow favours the intervals that are too narrow. So it is
looked at in whole rounds only, and its coverage falls short of 95%: see `estimates`.
"""

from collections.abc import Callable
from typing import TypeVar

from rctaf_jax.errors import InputError

from .estimates import MeanSquare, relative_error

State = TypeVar("State")


def stream(
    state: State,
    numbers: range,
    step: Callable[[State, int], State],
    *,
    metric: Callable[[State], MeanSquare],
    until: float | None,
    every: int,
    progress: Callable[[int, int], None] | None,
) -> State:
    """Takes one step for each number, in order.

    Args:
        state: before the first step.
        numbers: of the terms.
        step: (state, number) to the state with that term.
        metric: state to what it says.
        until: the largest `relative_error` to stop at; None takes every number.
        every: steps between two looks at it.
        progress: called with the number of steps taken and their total.

    Raises:
        InputError: if until is not a positive number.
    """
    if until is not None and not until > 0:
        raise InputError(f"until must be a positive number or None, got {until}")
    for count, number in enumerate(numbers, start=1):
        state = step(state, number)
        if progress is not None:
            progress(count, len(numbers))
        if until is not None and count % every == 0 and relative_error(metric(state)) <= until:
            break
    return state
