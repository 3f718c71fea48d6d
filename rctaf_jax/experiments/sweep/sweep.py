"""The sweep: train a network for each beta x curvature x seed, measure it, write it down.

A member is done when its `row.json` can be read and its outcomes are there; started again, a sweep
does what is missing. Training goes on from the last checkpoint of the same group: the same members
on as many devices.
"""

import dataclasses
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rctaf_jax.activations import Activation
from rctaf_jax.config import SweepConfig
from rctaf_jax.data import Dataset, Split
from rctaf_jax.errors import Preempted
from rctaf_jax.experiments.run.environment import describe_environment
from rctaf_jax.experiments.run.folder import RunConfig, claim_folder, load_data
from rctaf_jax.experiments.run.measure import (
    EstimateHessian,
    Evaluate,
    Outcomes,
    check_evaluation,
    check_hessian,
    describe_hessian,
    hessian_split,
    make_estimate_hessian,
    make_evaluate,
)
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.files import write_arrays, write_json
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.members import (
    Member,
    TrainedMember,
    map_members,
    members_per_device,
    train_members,
)
from rctaf_jax.training.preemption import watch_for_termination
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.state import TrainState
from rctaf_jax.training.step import Metrics
from rctaf_jax.training.trainer import Trainer, device_data, make_trainer

from . import unfinished
from .members import Entry, by_family, expand, groups_of
from .unfinished import Group


class Programs(NamedTuple):
    """Everything compiled for one activation family."""

    trainer: Trainer
    advance: Any
    evaluate: Evaluate
    estimate_hessian: EstimateHessian


class Sweep(NamedTuple):
    """A sweep under way.

    Attributes:
      folder: of its results.
      command: which each member's environment.json tells.
      config, dataset: resolved.
      data: the training split, on the devices.
      devices, per_device: where members train, and how many share a device.
      programs: those of each family that was needed so far.
    """

    folder: Path
    command: str
    config: SweepConfig
    dataset: Dataset
    data: Any
    devices: Sequence[jax.Device]
    per_device: int
    programs: dict[str, Programs]


Engine = Callable[[Sweep, Sequence[Entry], SweepProgress], None]
"""Trains and measures those members that a sweep's folder lacks, as `run_members` does."""


def resolve_sweep(config: SweepConfig) -> tuple[SweepConfig, Dataset]:
    """Load the data, fill in what was left out, check everything before any work.

    Raises:
      InputError: naming what cannot be.
    """
    expand(config)
    return resolve_settings(config)


def resolve_settings(config: SweepConfig) -> tuple[SweepConfig, Dataset]:
    """The same for a configuration that need not say which members it has.

    Raises:
      InputError: naming what cannot be.
    """
    check_evaluation(config.evaluation)
    check_hessian(config.hessian)
    dataset = load_data(config.data)
    return dataclasses.replace(config, train=resolve(config.train, dataset)), dataset


def open_sweep(config: SweepConfig, dataset: Dataset, folder: Path, command: str) -> Sweep:
    """Make a sweep's folder, or find it, and put its data on the device.

    Raises:
      InputError: if the folder belongs to another configuration.
    """
    claim_folder(folder, config, dataset, command)
    return Sweep(
        folder,
        command,
        config,
        dataset,
        device_data(dataset),
        jax.local_devices(),
        members_per_device(),
        programs={},
    )


def run_members(sweep: Sweep, entries: Sequence[Entry], progress: SweepProgress) -> None:
    """Train and measure those of `entries` that the sweep's folder lacks.

    Raises:
      Preempted: on SIGTERM, after a checkpoint or after a member that was being measured.
    """
    missing = [entry for entry in entries if not is_done(sweep.folder, entry)]
    progress.start(len(entries), len(entries) - len(missing))
    with watch_for_termination() as should_stop:
        for family in by_family(entries):
            if missing_groups(sweep, family):
                for row in finish_family(sweep, family, progress, should_stop):
                    progress.member(row)
                    if should_stop():
                        raise Preempted()
    unfinished.clear(sweep.folder)


def run_sweep(
    config: SweepConfig,
    dataset: Dataset,
    folder: Path,
    command: str,
    progress: SweepProgress,
    engine: Engine = run_members,
) -> None:
    """Train and measure every member of a resolved sweep that `folder` lacks.

    Raises:
      InputError: if the folder belongs to another configuration.
      Preempted: on SIGTERM, after a checkpoint or a finished member.
    """
    engine(open_sweep(config, dataset, folder, command), expand(config), progress)


def is_done(folder: Path, entry: Entry) -> bool:
    """Whether a member needs no more work."""
    return unfinished.is_measured(folder, entry.id)


def finish_family(
    sweep: Sweep, family: list[Entry], progress: SweepProgress, should_stop: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """Finish members of one family by the same compiled programs; their rows, as they are written.

    Raises:
      Preempted: if `should_stop` said so, after a checkpoint.
    """
    programs = programs_of(sweep, family[0].activation)
    # Compiling the measurements takes as long as the training program: both at once.
    with ThreadPoolExecutor(max_workers=1) as compiler:
        compiled = compiler.submit(compile_measurements, sweep, programs, family[0])
        for group in missing_groups(sweep, family):
            trained_group = train_group(sweep, programs, group, progress, should_stop)
            compiled.result()
            for entry, trained, seconds in trained_group:
                if not is_done(sweep.folder, entry):
                    yield measure(sweep, programs, entry, trained, seconds, progress)
            unfinished.remove(sweep.folder, group_of(sweep, group))


def missing_groups(sweep: Sweep, family: Sequence[Entry]) -> list[list[Entry]]:
    """Members of one family as they train at once, without groups that are done."""
    groups = groups_of(family, len(sweep.devices) * sweep.per_device)
    return [group for group in groups if not all(is_done(sweep.folder, one) for one in group)]


def group_of(sweep: Sweep, group: Sequence[Entry]) -> Group:
    """A group as its checkpoints know it."""
    ids = tuple(entry.id for entry in group)
    return Group(ids, len(sweep.devices), sweep.per_device)


def compile_measurements(sweep: Sweep, programs: Programs, entry: Entry) -> None:
    """Measure an untrained member on two images, by the programs that measure every member."""
    state = programs.trainer.initial(entry.seed, entry.activation.alpha)
    few = Split(*(array[:2] for array in sweep.dataset.test))
    if sweep.config.evaluation.attack == "pgd":  # AutoAttack compiles for as many as there are
        programs.evaluate(state.variables, few)
    if sweep.config.hessian.probes:
        programs.estimate_hessian(state.variables, few, num_probes=2)


def programs_of(sweep: Sweep, activation: Activation) -> Programs:
    """What a family needs, made once; nothing is compiled before it is called."""
    if activation.name not in sweep.programs:
        sweep.programs[activation.name] = make_programs(sweep, activation)
    return sweep.programs[activation.name]


def make_programs(sweep: Sweep, activation: Activation) -> Programs:
    """What a family needs."""
    config, num_classes = sweep.config, sweep.dataset.num_classes
    trainer = make_trainer(config.train, activation, sweep.dataset)
    return Programs(
        trainer,
        map_members(trainer, sweep.devices, sweep.per_device),
        make_evaluate(config.evaluation, config.train, activation, num_classes),
        make_estimate_hessian(config.hessian, config.train, activation, num_classes),
    )


def train_group(
    sweep: Sweep,
    programs: Programs,
    group: list[Entry],
    progress: SweepProgress,
    should_stop: Callable[[], bool],
) -> list[tuple[Entry, TrainedMember, float]]:
    """Train a group at once, from its last checkpoint; each member with its share of the time."""
    members = [Member(entry.seed, entry.activation.alpha) for entry in group]
    trainer, started = programs.trainer, time.monotonic()
    batch_images = sweep.config.train.batch_size * len(group)

    def report(step: int, metrics: Metrics) -> None:
        count = float(np.mean(metrics.num_steps))
        loss = float(np.mean(np.asarray(metrics.loss))) / count
        progress.step(step, trainer.num_steps, loss, int(count) * batch_images)

    progress.group([entry.id for entry in group], trainer.num_steps)
    with Checkpoints(unfinished.claim(sweep.folder, group_of(sweep, group))) as checkpoints:
        trained = train_members(
            trainer,
            programs.advance,
            members,
            sweep.data,
            devices=sweep.devices,
            per_device=sweep.per_device,
            checkpoints=checkpoints,
            report=report,
            should_stop=should_stop,
        )
    share = (time.monotonic() - started) / len(group)
    return [(entry, member, share) for entry, member in zip(group, trained, strict=True)]


def measure(
    sweep: Sweep,
    programs: Programs,
    entry: Entry,
    trained: TrainedMember,
    train_seconds: float,
    progress: SweepProgress,
) -> dict[str, Any]:
    """Measure a member and write it down: the row last, since it says that the member is done."""
    folder = sweep.folder / "members" / entry.id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "row.json").unlink(missing_ok=True)  # of an earlier training, as all that follows
    write_json(folder / "environment.json", describe_environment(sweep.command))
    row = describe(entry, programs.trainer)
    seconds = {"train": train_seconds, "evaluate": 0.0, "hessian": 0.0}
    if trained.first_bad_step is not None:
        message = f"the loss is not finite at step {trained.first_bad_step}"
        row |= {"status": "diverged", "message": message, "seconds": seconds}
    else:
        row |= {"status": "done", "message": None, "seconds": seconds}
        row |= take_measurements(sweep, programs, folder, trained.state, seconds, progress.phase)
        save_run(sweep, folder, entry, trained.state)
    write_json(folder / "row.json", row)
    return row


def describe(entry: Entry, trainer: Trainer) -> dict[str, Any]:
    """What a row says before any measurement."""
    activation = entry.activation
    curvature = activation.max_curvature
    return {
        "id": entry.id,
        "activation": activation.text,
        "family": activation.name,
        "beta": activation.beta,
        "alpha": activation.alpha,
        "max_curvature": curvature if math.isfinite(curvature) else "inf",
        "seed": entry.seed,
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
    programs: Programs,
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
    hessian, started = None, time.monotonic()
    if sweep.config.hessian.probes:
        tell("Hessian norm")
        split = hessian_split(sweep.config.hessian, sweep.dataset)
        estimate = programs.estimate_hessian(state.final_variables, split)
        hessian = describe_hessian(estimate, len(split.labels))
    seconds["hessian"] = time.monotonic() - started
    return {
        "num_test": len(outcomes.robust),
        **correct(outcomes),
        "nonfinite": int(outcomes.nonfinite.sum()),
        "as_trained": None if as_trained is None else correct(as_trained),
        "hessian": hessian,
    }


def correct(outcomes: Outcomes) -> dict[str, int]:
    """How many images are right, clean and under attack."""
    return {
        "clean_correct": int(outcomes.clean_correct.sum()),
        "robust_correct": int(outcomes.robust.sum()),
    }


def save_run(sweep: Sweep, folder: Path, entry: Entry, state: TrainState) -> None:
    """Make the member's folder a run's, so that it can be evaluated again on its own."""
    config = RunConfig(sweep.config.data, sweep.config.train, entry.activation.text, entry.seed)
    write_json(folder / "config.json", dataclasses.asdict(config))
    write_json(folder / "data.json", sweep.dataset.provenance())
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(int(state.step), state)
