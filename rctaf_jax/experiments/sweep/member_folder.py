"""A member measured and written down: a run's folder, and the row that says that it is done."""

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rctaf_jax.config import RunConfig
from rctaf_jax.experiments.results.config_file import as_json
from rctaf_jax.experiments.run.environment import describe_environment
from rctaf_jax.experiments.run.measure import (
    ImageOutcomes,
    describe_hessian,
    hessian_split,
)
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.files import write_arrays, write_json
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.members import (
    TrainedMember,
)
from rctaf_jax.training.state import TrainState
from rctaf_jax.training.trainer import Trainer

from .members import SweepMember
from .setup import FamilyPrograms, Sweep


def measure(
    sweep: Sweep,
    programs: FamilyPrograms,
    member: SweepMember,
    trained: TrainedMember,
    train_seconds: float,
    progress: SweepProgress,
) -> dict[str, Any]:
    """Measure a member and write it down: the row last, since it says that the member is done."""
    folder = sweep.folder / "members" / member.id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "row.json").unlink(missing_ok=True)  # of an earlier training, as all that follows
    write_json(folder / "environment.json", describe_environment(sweep.command))
    row = describe(member, programs.trainer)
    seconds = {"train": train_seconds, "evaluate": 0.0, "hessian": 0.0}
    if trained.first_bad_step is not None:
        message = f"the loss is not finite at step {trained.first_bad_step}"
        row |= {"status": "diverged", "message": message, "seconds": seconds}
    else:
        row |= {"status": "done", "seconds": seconds}
        row |= take_measurements(sweep, programs, folder, trained.state, seconds, progress.phase)
        save_run(sweep, folder, member, trained.state)
    write_json(folder / "row.json", row)
    return row


def describe(member: SweepMember, trainer: Trainer) -> dict[str, Any]:
    """What a row says before any measurement."""
    activation = member.activation
    curvature = activation.max_curvature
    return {
        "id": member.id,
        "activation": activation.text,
        "family": activation.name,
        "beta": activation.beta,
        "alpha": activation.alpha,
        "max_curvature": curvature if math.isfinite(curvature) else "inf",
        "seed": member.seed,
        "steps": trainer.num_steps,
        "num_test": None,
        "clean_correct": None,
        "robust_correct": None,
        "nonfinite": None,
        "as_trained": None,
        "hessian": None,
    }


def take_measurements(
    sweep: Sweep,
    programs: FamilyPrograms,
    folder: Path,
    state: TrainState,
    seconds: dict[str, float],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Accuracies and Hessian norm of a trained member; fills in `seconds`."""
    tell("evaluating")
    started = time.monotonic()
    outcomes = programs.evaluate(state.final_variables, sweep.dataset.test)
    write_arrays(folder / "outcomes.npz", outcomes._asdict())
    as_trained = programs.evaluate(state.variables, sweep.dataset.test) if state.averaged else None
    seconds["evaluate"] = time.monotonic() - started
    hessian, message, started = None, None, time.monotonic()
    if sweep.config.hessian.num_probes:
        tell("Hessian norm")
        split = hessian_split(sweep.config.hessian.num_examples, sweep.dataset)
        estimate = programs.estimate_hessian(state.final_variables, split)
        if math.isfinite(estimate.mean_square.q):
            hessian = describe_hessian(estimate, len(split.labels))
        else:
            message = "the Hessian is not finite"
    seconds["hessian"] = time.monotonic() - started
    return {
        "num_test": len(outcomes.robust),
        **correct(outcomes),
        "nonfinite": int(outcomes.nonfinite.sum()),
        "as_trained": None if as_trained is None else correct(as_trained),
        "hessian": hessian,
        "message": message,
    }


def correct(outcomes: ImageOutcomes) -> dict[str, int]:
    """How many images are right, clean and under attack."""
    return {
        "clean_correct": int(outcomes.clean_correct.sum()),
        "robust_correct": int(outcomes.robust.sum()),
    }


def save_run(sweep: Sweep, folder: Path, member: SweepMember, state: TrainState) -> None:
    """Make the member's folder a run's, so that it can be evaluated again on its own."""
    config = RunConfig(sweep.config.data, sweep.config.train, member.activation.text, member.seed)
    write_json(folder / "config.json", as_json(config))
    write_json(folder / "data.json", sweep.dataset.provenance())
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(int(state.step), state)
