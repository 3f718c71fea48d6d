"""Stopping, with a made-up state: the number of steps is all it knows."""

import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.hessian.estimates import MeanSquare, with_interval
from rctaf_jax.hessian.stream import stream


def _metric(count: int) -> MeanSquare:
    """q = 1 with a relative error of the rms of about 1 / count."""
    return with_interval(1.0, 2 / (1.959964 * count), 1e9, 1)


def _run(until: float | None, *, every: int = 3, total: int = 20) -> tuple[int, list[int]]:
    seen: list[int] = []
    count = stream(
        0,
        range(100, 100 + total),
        lambda state, number: state + 1,
        metric=_metric,
        until=until,
        every=every,
        progress=lambda done, total: seen.append(done),
    )
    return count, seen


@pytest.mark.parametrize(
    ("until", "expected"), [(None, 20), (0.01, 20), (0.101, 12), (0.5, 3), (1.0, 3)]
)
def test_stops_at_the_first_round_that_is_narrow_enough(until: float | None, expected: int) -> None:
    """Narrow enough from 10 steps on means 12, the end of a round of three."""
    assert _run(until) == (expected, list(range(1, expected + 1)))


def test_numbers_come_in_order() -> None:
    numbers = stream(
        [], range(3, 9, 2), lambda s, n: [*s, n], metric=None, until=None, every=1, progress=None
    )
    assert numbers == [3, 5, 7]


@pytest.mark.parametrize("until", [0.0, -1.0, float("nan")])
def test_bad_target(until: float) -> None:
    with pytest.raises(InputError, match="until must be a positive number or None"):
        _run(until)
