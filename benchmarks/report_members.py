"""What a report of many members costs: seconds and memory of `rctaf report`, and of reading alone.

    python benchmarks/report_members.py

Makes a results folder of synthetic networks in a temporary place: three betas at many curvatures
and ReLU, accuracies on 10,000 test images and Hessian norms, as a finished sweep leaves them. Then
two processes: one reads the folder's rows, one is `rctaf report`. Seconds are on the clock with
Python's start and all imports; memory is the process's peak.

With 500 networks of as many activations, on two idle cores: rows read in 0.17 s; the report took
10.9 s and a peak of 793 MB.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from rctaf_jax.experiments.results.config_file import as_json
from rctaf_jax.experiments.sweep.members import SweepMember, members_of
from rctaf_jax.experiments.sweep.presets import DIGITS
from rctaf_jax.files import write_arrays, write_json

READING = """
import sys, time
from rctaf_jax.experiments.results import load_results
started = time.monotonic()
load_results(sys.argv[1])
print(time.monotonic() - started)
"""


class Cost(NamedTuple):
    """Of a process: what it printed last, its seconds on the clock, its peak memory in MB."""

    said: str
    seconds: float
    megabytes: float


def activations(count: int) -> list[str]:
    """So many: ReLU, and the three betas at curvatures from 0.5 to 50."""
    each = -(-(count - 1) // 3)
    curvatures = np.geomspace(0.5, 50.0, each)
    family = [f"rct-af:beta={b},curvature={c:.6g}" for c in curvatures for b in (0, 1, 2)]
    return ["relu", *family[: count - 1]]


def row_of(member: SweepMember, rng: np.random.Generator, num_test: int) -> dict[str, Any]:
    """A row.json: best at a curvature of 7."""
    activation = member.activation
    is_family = activation.beta is not None
    distance = abs(np.log(activation.max_curvature / 7.0)) if is_family else 2.0
    rms = float(0.01 * (1 + distance**2) * (1 + 0.04 * rng.normal()))
    robust = int(num_test * (0.55 - 0.03 * distance + 0.005 * rng.normal()))
    return {
        "id": member.id,
        "activation": activation.text,
        "family": activation.name,
        "beta": activation.beta,
        "alpha": activation.alpha,
        "max_curvature": activation.max_curvature if is_family else "inf",
        "seed": member.seed,
        "status": "done",
        "message": None,
        "num_test": num_test,
        "clean_correct": int(num_test * (0.9 - 0.01 * distance + 0.003 * rng.normal())),
        "robust_correct": robust,
        "nonfinite": 0,
        "hessian": {
            "mean_square": rms**2,
            "mean_square_standard_error": 0.05 * rms**2,
            "rms": rms,
            "rms_standard_error": 0.025 * rms,
            "num_probes": 16,
            "num_examples": 1437,
            "num_parameters": 12345,
        },
        "steps": 240,
        "seconds": {"train": 30.0, "evaluate": 5.0, "hessian": 2.5},
    }


def make_folder(folder: Path, num_members: int, num_seeds: int, num_test: int) -> None:
    """A finished sweep's files, without networks."""
    texts, seeds = activations(num_members // num_seeds), tuple(range(num_seeds))
    grid = {"betas": (), "curvatures": (), "baselines": texts, "seeds": seeds}
    train = {"method": "trades", "norm": "Linf", "epsilon": 0.2, "batch_size": 32, "epochs": 10}
    config = as_json(DIGITS) | grid
    write_json(folder / "config.json", config | {"train": config["train"] | train})
    write_json(
        folder / "environment.json",
        {
            "versions": {"python": sys.version.split()[0]},
            "device": "cpu x 1",
            "platform": sys.platform,
            "commit": None,
            "command": "python benchmarks/report_members.py",
            "started": "2026-01-01T00:00:00+00:00",
        },
    )
    data = {"name": "noise", "source": "random numbers", "num_train": 1437, "num_test": num_test}
    told = {"image_shape": [8, 8, 1], "class_names": list("0123456789")}
    write_json(
        folder / "data.json", data | told | {"content_hash": "ab" * 32, "index_order": "as drawn"}
    )
    rng = np.random.default_rng(0)
    places = np.arange(num_test)
    for member in members_of(texts, seeds):
        row = row_of(member, rng, num_test)
        own = folder / "members" / member.id
        own.mkdir(parents=True)
        write_json(own / "row.json", row)
        correct = rng.permutation(places) < row["clean_correct"]
        robust = correct & (np.cumsum(correct) <= row["robust_correct"])
        arrays = {"clean_correct": correct, "robust": robust, "nonfinite": places < 0}
        write_arrays(own / "outcomes.npz", arrays)


def measure(*command: str) -> Cost:
    """Run a command to its end; its memory is right if it is the largest that was run so far."""
    started = time.monotonic()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Cost(output.splitlines()[-1], seconds, peak)


def main(num_members: int = 500, num_seeds: int = 1, num_test: int = 10_000) -> None:
    """Make the folder, read it, report it.

    Args:
      num_members: networks in all.
      num_seeds: networks of each activation.
      num_test: test images.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_folder(folder, num_members, num_seeds, num_test)
        read = measure(sys.executable, "-c", READING, place)
        report = measure(sys.executable, "-m", "rctaf_jax", "report", place)
        size = (folder / "report.html").stat().st_size / 1e6
    told = {
        "members": num_members,
        "seconds_to_read_rows": round(float(read.said), 2),
        "seconds_of_report": round(report.seconds, 1),
        "peak_megabytes": round(report.megabytes),
        "page_megabytes": round(size, 1),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    tyro.cli(main)
