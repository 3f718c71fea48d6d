"""Networks per hour of a sweep, over training and measuring them one process each.

    python benchmarks/sweep_throughput.py

The default digits sweep's networks of beta 1, by `rctaf sweep` once for all, and by `rctaf sweep`
once for each, so that nothing compiled is shared; without a compilation cache on disk. Rows must be
the same but for their seconds.

Takes 5 minutes on two CPU cores. Expect a sweep to do at least 1.5 times as many networks per hour:
on digits compiling takes several times as long as training.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

LEAST = 1.5


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One process for all networks against one for each."""

    curvatures: tuple[float, ...] = (0.5, 2.0, 4.0, 7.0, 15.0, 50.0)
    """Of beta 1."""
    seeds: tuple[int, ...] = (0, 1)
    """One network for each."""


def main(benchmark: Benchmark) -> None:
    console = Console()
    result = harness.start(**dataclasses.asdict(benchmark))
    pairs = [(curvature, seed) for curvature in benchmark.curvatures for seed in benchmark.seeds]
    with tempfile.TemporaryDirectory() as place:
        together, alone = Path(place) / "together", Path(place) / "alone"
        with console.status("one process for all"):
            seconds = {"sweep": run(together, benchmark.curvatures, benchmark.seeds)}
        seconds["one each"] = sum(
            run(alone / f"{curvature}-{seed}", (curvature,), (seed,))
            for curvature, seed in track(pairs, "one process each", console=console)
        )
        check_same(rows(together), {k: v for p in alone.iterdir() for k, v in rows(p).items()})
    result["num_networks"] = len(pairs)
    result["seconds"] = seconds
    result["per_hour"] = {name: 3600 * len(pairs) / spent for name, spent in seconds.items()}
    result["ratio"] = seconds["one each"] / seconds["sweep"]
    result["target"] = {"least": LEAST, "met": result["ratio"] >= LEAST}
    show(result, console)
    harness.save("sweep_throughput", result, console)


def run(folder: Path, curvatures: tuple[float, ...], seeds: tuple[int, ...]) -> float:
    """Seconds of a sweep in a process of its own."""
    words = [sys.executable, "-m", "rctaf_jax", "sweep", "--output", str(folder), "--betas", "1"]
    words += ["--curvatures", *map(str, curvatures), "--seeds", *map(str, seeds), "--baselines"]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    started = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """A folder's rows without their seconds, by id."""
    read = [json.loads(path.read_text()) for path in folder.glob("members/*/row.json")]
    return {row["id"]: row | {"seconds": None} for row in read}


def check_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Stop unless both ways gave the same numbers."""
    different = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
    if different:
        raise SystemExit(f"not the same rows: {', '.join(sorted(different))}.")


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{result['num_networks']} networks")
    table.add_column("")
    for column in ("s", "networks per hour"):
        table.add_column(column, justify="right")
    for name, spent in result["seconds"].items():
        table.add_row(name, f"{spent:.0f}", f"{result['per_hour'][name]:.0f}")
    console.print(table)
    verdict = "met" if result["target"]["met"] else "NOT met"
    console.print(f"{result['ratio']:.2f} times as many, target {LEAST}: {verdict}")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
