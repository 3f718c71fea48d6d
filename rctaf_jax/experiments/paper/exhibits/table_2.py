"""Table 2: memory and time of a training step per activation, over ReLU's."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.paper.experiment import (
    Exhibit,
    Experiment,
    Own,
    Record,
    Shown,
    no_parts,
)
from rctaf_jax.experiments.paper.overhead import (
    PAPER_COSTS,
    REFERENCE,
    StepSize,
    measure_memory,
    measure_step,
    measure_time,
    over_reference,
    paper_ratio,
)
from rctaf_jax.experiments.paper.scales import ExperimentScale
from rctaf_jax.experiments.run.environment import describe_environment, device_and_versions
from rctaf_jax.experiments.show.dot_plot import Dot, dots_figure
from rctaf_jax.experiments.show.progress import make_bars
from rctaf_jax.experiments.show.tables import TextTable
from rctaf_jax.experiments.show.wording import family_label
from rctaf_jax.files import write_json
from rctaf_jax.typed_json import AtLeast1, Positive, convert_typed, read_json

OVERHEAD = "overhead.json"
ROUNDS = 25


@dataclasses.dataclass(frozen=True)
class _Size:
    model: str
    width: Positive
    batch: AtLeast1


@dataclasses.dataclass(frozen=True)
class _Memory:
    temporary_bytes: AtLeast1


@dataclasses.dataclass(frozen=True)
class _Spread:
    median: Positive
    low: Positive
    high: Positive


@dataclasses.dataclass(frozen=True)
class _Time:
    seconds: _Spread
    ratio: _Spread


@dataclasses.dataclass(frozen=True)
class _Environment:
    device: str
    versions: dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Overhead:
    """overhead.json, as far as it is measured; what has a default may be absent."""

    environment: _Environment
    step: _Size
    memory_step: _Size
    rounds: AtLeast1
    memory: dict[str, _Memory]
    seconds_per_compilation: Positive | None = None
    seconds_per_step: Positive | None = None
    time: dict[str, _Time] | None = None


def estimate_overhead(scale: ExperimentScale, folder: Path) -> float:
    """Seconds still to go, from the first activation's; that one is measured here, and kept."""
    if has_times(folder):
        return 0.0
    result = load_overhead(scale, folder)
    if "seconds_per_compilation" not in result:
        started = time.monotonic()
        result["memory"][REFERENCE] = measure_memory(REFERENCE, scale.memory_step)
        result["seconds_per_compilation"] = time.monotonic() - started
        write_json(folder / OVERHEAD, result)
    if "seconds_per_step" not in result:
        result["seconds_per_step"] = measure_step(REFERENCE, scale.step)
        write_json(folder / OVERHEAD, result)
    compilations = 2 * len(PAPER_COSTS) - len(PAPER_COSTS.keys() & result["memory"].keys())
    steps = ROUNDS * len(PAPER_COSTS)
    seconds: float = compilations * result["seconds_per_compilation"]
    return seconds + steps * result["seconds_per_step"]


def measure_overhead(scale: ExperimentScale, folder: Path, console: Console) -> None:
    """The memory of each activation, kept one by one; then the times, which are taken in turn."""
    if has_times(folder):
        return
    with make_bars(console) as bars:
        task = bars.add_task("activations", total=2 * len(PAPER_COSTS), note="memory")
        for activation in PAPER_COSTS:
            remember_memory(scale, folder, activation)
            bars.advance(task)

        def tell(activation: str) -> None:
            bars.update(task, advance=1, note=f"compiled {activation} to be timed")

        times = measure_time(tuple(PAPER_COSTS), scale.step, ROUNDS, tell)
    write_json(folder / OVERHEAD, load_overhead(scale, folder) | {"time": times})


def has_times(folder: Path) -> bool:
    """Whether all was measured."""
    return (folder / OVERHEAD).exists() and _read(folder / OVERHEAD).get("time") is not None


def _read(path: Path) -> dict[str, Any]:
    """What was measured so far, checked for all that is used of it."""
    result = read_json(path)
    convert_typed(result, _Overhead, path)
    return result


def _read_complete(path: Path) -> dict[str, Any]:
    """What was measured, of every activation.

    Raises:
      InputError: naming what cannot be or lacks.
    """
    result = _read(path)
    for name in ("memory", "time"):
        lacking = [
            activation for activation in PAPER_COSTS if activation not in (result.get(name) or {})
        ]
        if lacking:
            raise InputError(
                f"{path} lacks {name}.{lacking[0]}: {name} must have all "
                f"{len(PAPER_COSTS)} activations."
            )
    return result


def load_overhead(scale: ExperimentScale, folder: Path) -> dict[str, Any]:
    """What was measured so far.

    Raises:
      InputError: if it was measured of other steps, on another device, or by other versions.
    """
    environment = describe_environment("rctaf reproduce table-2 --scale " + scale.name)
    sizes = {"step": scale.step._asdict(), "memory_step": scale.memory_step._asdict()}
    if not (folder / OVERHEAD).exists():
        folder.mkdir(parents=True, exist_ok=True)
        return {"environment": environment, **sizes, "rounds": ROUNDS, "memory": {}}
    result = _read(folder / OVERHEAD)
    for name, size in sizes.items():
        if result.get(name) != size:
            raise InputError(
                f"{folder / OVERHEAD} is of {name} {result.get(name)}, this scale of {size}: "
                "choose another --output."
            )
    check_environment(folder / OVERHEAD, result["environment"], environment)
    return result


def check_environment(path: Path, found: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to compare memory and times of two machines or of two versions.

    Raises:
      InputError: naming the first difference.
    """
    there = device_and_versions(found)
    for name, value in device_and_versions(here).items():
        if there.get(name) != value:
            raise InputError(
                f"{path} was measured with {name} {there.get(name)}, here it would be with "
                f"{value}: choose another --output."
            )


def remember_memory(scale: ExperimentScale, folder: Path, activation: str) -> None:
    """Measure one activation's memory, if that was not done."""
    result = load_overhead(scale, folder)
    if activation not in result["memory"]:
        result["memory"][activation] = measure_memory(activation, scale.memory_step)
        write_json(folder / OVERHEAD, result)


def _show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """Ratios to ReLU's beside the paper's."""
    result = _read_complete(folder / OVERHEAD)
    records = [_record(result, activation) for activation in PAPER_COSTS]
    memory = [Dot(r["label"], r["memory"], paper=r["paper_memory"]) for r in records]
    times = [
        Dot(r["label"], r["time"], r["time_low"], r["time_high"], r["paper_time"]) for r in records
    ]
    panels = [
        ("Memory of intermediates", "over ReLU's", memory),
        ("Time of a training step", "over ReLU's, quartiles", times),
    ]
    columns = ["activation", "memory", "paper", "time", "quartiles", "paper"]
    size, memory_size = StepSize(**result["step"]), StepSize(**result["memory_step"])
    where = result["environment"]["device"]
    remark = (
        f"Memory: the compiler's peak of intermediate results, {_words(memory_size)}. Time: "
        f"{_words(size)}, {result['rounds']} rounds in turn. Measured on {where}; the paper's are "
        "a whole process's memory and minutes of training on an RTX 2080 Ti."
    )
    return Exhibit(
        dots_figure(panels, reference=1.0),
        records,
        TextTable(columns, [_cells(r) for r in records]),
        [remark],
    )


def _words(size: StepSize) -> str:
    return f"{size.model}, width {size.width:g}, batch {size.batch}"


def _record(result: Mapping[str, Any], activation: str) -> Record:
    ratio = result["time"][activation]["ratio"]
    return {
        "activation": activation,
        "label": family_label(parse_activation(activation).name),
        "memory_bytes": result["memory"][activation]["temporary_bytes"],
        "memory": over_reference(result["memory"], "temporary_bytes")[activation],
        "paper_memory": paper_ratio(activation, 0),
        "seconds": result["time"][activation]["seconds"]["median"],
        "time": ratio["median"],
        "time_low": ratio["low"],
        "time_high": ratio["high"],
        "paper_time": paper_ratio(activation, 1),
    }


def _cells(record: Record) -> list[str]:
    return [
        record["label"],
        f"{record['memory']:.3f}",
        f"{record['paper_memory']:.2f}",
        f"{record['time']:.2f}",
        f"{record['time_low']:.2f} to {record['time_high']:.2f}",
        f"{record['paper_time']:.2f}",
    ]


EXPERIMENT = Experiment(
    "table-2",
    "Table 2: what an activation costs",
    "Over ReLU, beta 1 takes 1.7 times the memory and 1.2 times the time, beta 2 3.2 and 1.5.",
    no_parts,
    _show,
    Own(estimate_overhead, measure_overhead),
)
