"""What the benchmarks share: interleaved rounds of timing, and the file they leave.

Machines are shared and their clocks change, so contenders take turns within one run, in an order
that is reversed every other round, and what is reported is a ratio of times of the same round.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from rctaf_jax.experiments.environment import describe_environment
from rctaf_jax.files import write_json

RESULTS = Path(__file__).parent.parent / "results" / "benchmarks"

Contender = Callable[[], object]


class Times(NamedTuple):
    """Seconds of one contender, a round each.

    Attributes:
        wall: on the clock.
        cpu: of the process, over its cores; what waits for a busy machine does not count.
    """

    wall: list[float]
    cpu: list[float]


class Spread(NamedTuple):
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


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles.

    Example:
        >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
        Spread(median=3.0, low=2.0, high=4.0)
    """
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """Spread of one contender's time over another's, round by round."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])


def start(**configuration: Any) -> dict[str, Any]:
    """The beginning of a results file: where, with what, and how busy the machine was."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return {
        "environment": describe_environment(command),
        "cores": os.cpu_count(),
        "load_average_at_start": [round(load, 2) for load in os.getloadavg()],
        "configuration": configuration,
    }


def save(name: str, result: dict[str, Any], console: Console) -> None:
    """Write `results/benchmarks/NAME-BACKEND.json`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    result["load_average_at_end"] = [round(load, 2) for load in os.getloadavg()]
    path = write_json(RESULTS / f"{name}-{jax.default_backend()}.json", result)
    console.print(f"written: {path.relative_to(RESULTS.parent.parent)}")
