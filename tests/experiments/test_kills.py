"""Commands killed at random moments and given again: the same bits, nothing finished done twice.

Forty times a sweep, a reproduction, an attack or a Hessian gets SIGKILL, SIGINT or SIGTERM while
finished parts are present, and goes on. Prints a table of it all.
"""

import csv
import itertools
import json
import multiprocessing
import os
import runpy
import shutil
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
ENDS = {
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGINT: {130},
    signal.SIGTERM: {0, -signal.SIGTERM},
}
"""Exit codes."""
KILLS_PER_FOLDER = 5
PATIENCE = 300.0
MOST_FOLDERS = 30
"""Of a command: it may end before it is killed, but not as often as that."""
INCIDENTAL = {"seconds", "environment", "command", "started", "forward_passes", "backward_passes"}
"""Keys whose values are another run's own, at any depth."""

TINY = ["--num-train", "64", "--num-test", "20", "--model", "mlp-1x8", "--batch-size", "16"]
TINY += ["--pgd-steps", "2"]
TRAIN = ["--attack-steps", "1", "--step-size", "0.1", "--method", "pgd-at", "--epochs"]
GRID = ["--betas", "1", "--curvatures", "1", "4", "9", "--baselines", "relu", "--seeds", "0"]
SCRIPT = """
import dataclasses, os, signal, sys
from pathlib import Path

# Ignored where the tests run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)

output = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(output, 1), os.dup2(output, 2)
os.environ.update({environment!r})

from rctaf_jax.cli import main
from rctaf_jax.config import DataConfig, EvaluationConfig, HessianConfig
from rctaf_jax.eval.autoattack import store
from rctaf_jax.experiments.paper.scales import SCALES
from rctaf_jax.experiments.run import hessian

# Everything here takes seconds, so what is done is kept at once.
store.FLUSH_SECONDS = hessian.SECONDS_PER_SAVE = 0.0

scale = SCALES["digits"]
study = scale.studies["standard"]
tiny = dataclasses.replace(
    study,
    data=DataConfig(num_train=64, num_test=20),
    train=dataclasses.replace(study.train, model="mlp-1x8", epochs=2, batch_size=16),
    evaluation=EvaluationConfig(pgd_steps=2),
    hessian=HessianConfig(num_probes=2, num_examples=20),
)
SCALES["digits"] = scale._replace(studies={{"standard": tiny}}, curvatures=(2.0, 7.0), seeds=(0,))
Path({ready!r}).touch()
sys.exit(main({words!r}))
"""


class Case(NamedTuple):
    """A command to kill.

    Attributes:
      name: of it.
      words: of the command, without its folder.
      kills: how often.
      kept: finished files that must stay as they are, in the results folder.
      results: files whose content must be that of an uninterrupted run.
    """

    name: str
    words: Sequence[str]
    kills: int
    kept: str
    results: Sequence[str]


CASES = (
    Case(
        "sweep",
        ["sweep", *TINY, *TRAIN, "1", *GRID, "--probes", "2"],
        13,
        "members/*/row.json",
        ["members/*/row.json", "members/*/outcomes.npz"],
    ),
    Case(
        "reproduce",
        ["reproduce", "figure-7", "--yes"],
        9,
        "studies/*/members/*/row.json",
        ["studies/*/members/*/row.json", "studies/*/members/*/outcomes.npz", "figure-7/rows.csv"],
    ),
    Case(
        "attack",
        ["attack", "RUN", "--attacks", "apgd-ce", "square", "--attack-batch", "4"],
        9,
        "*-*/*.npz",
        ["autoattack.json", "autoattack.npz"],
    ),
    Case(
        "hessian",
        ["hessian", "RUN", "--method", "coordinates", "--num-probes", "700"],
        9,
        "setup.json-is-written-again",
        ["hessian.json", "sums.npz"],
    ),
)


class Commands:
    """Runs `rctaf` in processes of its own, forked from one that has imported all that is slow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["rctaf_jax.experiments.command.parse"])
        self._number = 0
        self._environment = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": "",
        }

    def start(self, words: Sequence[str]) -> tuple[Any, Path]:
        """A process whose command has begun, and what it prints."""
        self._number += 1
        log, ready, script = (
            self._folder / f"{self._number}.{ending}" for ending in ("log", "ready", "py")
        )
        script.write_text(
            SCRIPT.format(
                log=str(log), ready=str(ready), words=list(words), environment=self._environment
            )
        )
        process = self._context.Process(target=runpy.run_path, args=(str(script),))
        process.start()
        until = time.monotonic() + PATIENCE
        while not ready.exists():
            assert process.is_alive(), log.read_text()
            assert time.monotonic() < until
            time.sleep(0.005)
        return process, log

    def run(self, words: Sequence[str]) -> float:
        """Run a command to its end; the seconds it took."""
        process, log = self.start(words)
        started = time.monotonic()
        process.join(PATIENCE)
        assert process.exitcode == 0, log.read_text()
        return time.monotonic() - started


def bare(value: Any) -> Any:
    """A JSON value without what is incidental to a run."""
    if isinstance(value, dict):
        return {key: bare(inner) for key, inner in value.items() if key not in INCIDENTAL}
    return [bare(inner) for inner in value] if isinstance(value, list) else value


def content(path: Path) -> Any:
    if path.suffix == ".json":
        return bare(json.loads(path.read_text()))
    if path.suffix == ".csv":
        rows = csv.DictReader(path.read_text().splitlines())
        return [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]
    with np.load(path) as arrays:
        return {name: (arrays[name].dtype.str, arrays[name].tobytes()) for name in arrays}


def results(folder: Path, case: Case) -> Mapping[str, Any]:
    paths = [path for pattern in case.results for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): content(path) for path in paths}


def finished(folder: Path, case: Case) -> dict[Path, int]:
    """When each finished file was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob(case.kept)}


def num_done(folder: Path) -> int:
    """Of a Hessian's terms."""
    if not (folder / "sums.npz").exists():
        return 0
    with np.load(folder / "sums.npz") as sums:
        return int(sums["num_done"])


def with_some_members(whole: Path, folder: Path) -> None:
    """A folder as if two of its members had been finished before."""
    shutil.copytree(whole, folder, copy_function=shutil.copy2)
    members = sorted(path.parent for path in folder.rglob("row.json"))
    for member in members[2:]:
        shutil.rmtree(member)


@pytest.mark.slow
def test_forty_kills(tmp_path, capfd):
    commands, rng = Commands(tmp_path), np.random.default_rng(0)
    run = tmp_path / "run"
    commands.run(["train", *TINY, *TRAIN, "2", "--activation", "relu", "--output", str(run)])
    table = []
    for case in CASES:
        words = [str(run) if word == "RUN" else word for word in case.words]
        whole = tmp_path / f"{case.name}-whole"
        commands.run([*words, "--output", str(whole)])  # compiles
        expected = results(whole, case)
        assert all(any(Path(name).match(p) for name in expected) for p in case.results)
        seconds = commands.run([*words, "--output", str(tmp_path / f"{case.name}-timed")])
        counts: Counter[str] = Counter()
        num_kept = killed = 0
        for attempt in itertools.count():
            if killed == case.kills:
                break
            assert attempt < MOST_FOLDERS, f"{killed} of {case.kills} kills of {case.name}"
            folder = tmp_path / f"{case.name}-{attempt}"
            if any("row.json" in pattern for pattern in case.results):
                with_some_members(whole, folder)
            killed_here = 0
            while killed < case.kills and killed_here < KILLS_PER_FOLDER:
                before, done = finished(folder, case), num_done(folder)
                process, log = commands.start([*words, "--output", str(folder)])
                time.sleep(rng.uniform(0, 0.9 * seconds))
                which = SIGNALS[killed % len(SIGNALS)]
                if not process.is_alive():
                    seconds *= 0.8  # with less to do, or less beside it, it is sooner done
                    break
                os.kill(process.pid, which)
                process.join(PATIENCE)
                if process.exitcode == 0 and which != signal.SIGTERM:
                    break  # it had ended by itself just then
                assert process.exitcode in ENDS[which], (which, process.exitcode, log.read_text())
                assert "Traceback" not in log.read_text()
                after = finished(folder, case)
                assert before.items() <= after.items()
                assert num_done(folder) >= done
                num_kept += len(before) + (done > 0)
                counts[f"{which.name} {process.exitcode}"] += 1
                killed, killed_here = killed + 1, killed_here + 1
            before = finished(folder, case)
            commands.run([*words, "--output", str(folder)])
            assert before.items() <= finished(folder, case).items()
            assert results(folder, case) == expected
            assert not list(folder.rglob("*.tmp"))
            assert not (folder / "unfinished").exists()
        table.append((case.name, killed, num_kept, f"{seconds:.1f} s", dict(counts)))
    with capfd.disabled():
        print("\ncommand, kills, finished files kept at each, alone takes, signals and exit codes")
        for line in table:
            print(*line, sep=", ")
    assert sum(line[1] for line in table) == 40
