"""What the benchmarks share: interleaved rounds of timing, and the file they leave."""

import os
import sys
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from rctaf_jax.experiments.paper.timing import (
    Contender,
    Quartiles,
    Times,
    interleaved,
    quartiles,
    ratio,
)
from rctaf_jax.experiments.run.environment import describe_environment
from rctaf_jax.files import write_json

__all__ = ["Contender", "Quartiles", "Times", "interleaved", "quartiles", "ratio", "save", "start"]

RESULTS = Path(__file__).parent.parent / "results" / "benchmarks"


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
