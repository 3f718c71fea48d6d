"""A sweep before any work: filled in and checked, its folder claimed, its data on the device."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rctaf_jax.config import SweepConfig
from rctaf_jax.data import Dataset, load_data
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.run.folder import check_fits, claim_folder
from rctaf_jax.experiments.run.measure import (
    EstimateHessian,
    Evaluate,
    check_evaluation,
    check_hessian,
)
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.training.members import (
    members_per_device,
)
from rctaf_jax.training.recipe import ResolvedTraining, check_alpha, resolve
from rctaf_jax.training.trainer import Trainer, device_data

from . import unfinished
from .members import SweepMember, expand


class ResolvedSweep(NamedTuple):
    """A sweep that is known to be possible, with nothing left open.

    Attributes:
      config: filled in.
      dataset: what `config.data` names.
      training: what training does.
      members: those that the grid asks for; a study of `rctaf reproduce` has no grid.
    """

    config: SweepConfig
    dataset: Dataset
    training: ResolvedTraining
    members: Sequence[SweepMember]


class FamilyPrograms(NamedTuple):
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
      config, dataset, training: as in `ResolvedSweep`.
      data: the training split, on the devices.
      devices, per_device: where members train, and how many share a device.
      programs: those of each family that was needed so far.
    """

    folder: Path
    command: str
    config: SweepConfig
    dataset: Dataset
    training: ResolvedTraining
    data: Any
    devices: Sequence[jax.Device]
    per_device: int
    programs: dict[str, FamilyPrograms]


Engine = Callable[[Sweep, Sequence[SweepMember], SweepProgress], None]
"""Trains and measures those members that a sweep's folder lacks, as `run_members` does."""


def resolve_sweep(config: SweepConfig) -> ResolvedSweep:
    """Load the data, fill in what was left out, check everything before any work.

    Raises:
      InputError: naming what cannot be.
    """
    members = expand(config)
    if not members:
        raise InputError("the sweep is empty: give a curvature or a baseline, and a seed.")
    for member in members:
        check_alpha(member.activation, config.train.dtype)
    return resolve_study(config)._replace(members=members)


def resolve_study(config: SweepConfig) -> ResolvedSweep:
    """Load the data, fill in and check settings whose members somebody else names.

    Raises:
      InputError: naming what cannot be.
    """
    check_evaluation(config.evaluation)
    check_hessian(config.hessian)
    dataset = load_data(config.data)
    training = resolve(config.train, dataset)
    check_fits(training, dataset)
    filled = dataclasses.replace(config, train=training.config)
    return ResolvedSweep(filled, dataset, training, ())


def open_sweep(resolved: ResolvedSweep, folder: Path, command: str) -> Sweep:
    """Make a sweep's folder, or find it, and put its data on the device.

    Raises:
      InputError: if the folder belongs to another configuration, or holds links or damaged files
        where the sweep works.
    """
    config, dataset, training, _ = resolved
    claim_folder(folder, config, dataset, command)
    unfinished.check_is_ours(folder)
    return Sweep(
        folder,
        command,
        config,
        dataset,
        training,
        device_data(dataset),
        jax.local_devices(),
        members_per_device(),
        programs={},
    )
