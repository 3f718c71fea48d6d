"""Interleaved rounds of timing, and ratios of times of the same round.

Machines are shared and their clocks change, so contenders take turns within one run, in an order
that is reversed every other round.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

Contender = Callable[[], object]


class Times(NamedTuple):
    """Seconds of one contender, a round each.

    Attributes:
        wall: on the clock.
        cpu: of the process, over its cores; what waits for a busy machine does not count.
    """

    wall: list[float]
    cpu: list[float]


class Quartiles(NamedTuple):
    """Median and quartiles over the rounds."""

    median: float
    low: float
    high: float


def interleaved(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Times]:
    """Times of each contender in each round.

    A contender returns only when its work is done, and was called once before: the first call of
    most compiles, and allocates.
    """
    times = {name: Times([], []) for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: 1 if number % 2 == 0 else -1]:
            wall, cpu = time.perf_counter(), time.process_time()
            contenders[name]()
            times[name].wall.append(time.perf_counter() - wall)
            times[name].cpu.append(time.process_time() - cpu)
    return times


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles.

    Example:
        >>> quartiles([1.0, 2.0, 3.0, 4.0, 5.0])
        Quartiles(median=3.0, low=2.0, high=4.0)
    """
    if len(values) < 2:
        return Quartiles(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(median, low, high)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Quartiles:
    """Median and quartiles of one contender's time over another's, round by round."""
    return quartiles([a / b for a, b in zip(numerator, denominator, strict=True)])
