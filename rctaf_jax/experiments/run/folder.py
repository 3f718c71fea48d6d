"""A run's folder: one trained network, what it was told, and its checkpoints.

    config.json  data.json  environment.json  metrics.jsonl  checkpoints/  evaluations/  row.json

A sweep's members are runs too, so that each can be evaluated again on its own.
"""

import dataclasses
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import RunConfig, SweepConfig
from rctaf_jax.data import Dataset, load_data
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.config_file import CONFIG, as_json, check_same, read_config
from rctaf_jax.files import is_free, write_json
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.recipe import ResolvedTraining, check_alpha, resolve
from rctaf_jax.training.state import TrainState
from rctaf_jax.training.trainer import make_trainer
from rctaf_jax.typed_json import read_json
from rctaf_jax.values import check_seed

from .environment import describe_environment
from .size import check_fits

DATA, ENVIRONMENT = "data.json", "environment.json"


class ResolvedRun(NamedTuple):
    """A run that is known to be possible, with nothing left open.

    Attributes:
      config: filled in, the activation in its canonical text.
      dataset: what `config.data` names.
      activation: parsed.
      training: what training does.
    """

    config: RunConfig
    dataset: Dataset
    activation: Activation
    training: ResolvedTraining


class Run(NamedTuple):
    """A trained network, its folder, and what it was told, as in `ResolvedRun`."""

    folder: Path
    config: RunConfig
    dataset: Dataset
    activation: Activation
    training: ResolvedTraining
    state: TrainState


def resolve_run(config: RunConfig) -> ResolvedRun:
    """Parse the activation, load the data, fill in what was left out, and check all of it.

    Raises:
      InputError: naming what cannot be.
    """
    check_seed(config.seed)
    activation = parse_activation(config.activation)
    check_alpha(activation, config.train.dtype)
    dataset = load_data(config.data)
    training = resolve(config.train, dataset)
    check_fits(training, dataset)
    filled = dataclasses.replace(config, train=training.config, activation=activation.text)
    return ResolvedRun(filled, dataset, activation, training)


def claim_folder(
    folder: Path, config: RunConfig | SweepConfig, dataset: Dataset, command: str
) -> None:
    """Make a results folder for a configuration, or find that it was made for the same one.

    Raises:
      InputError: if the folder belongs to another configuration or other data.
    """
    if (folder / CONFIG).exists():
        found = as_json(read_config(folder, type(config)))
        check_same(folder / CONFIG, without_data_dir(found), without_data_dir(as_json(config)))
        check_same(folder / DATA, read_json(folder / DATA), dataset.provenance())
        return
    if folder.exists() and not is_free(folder):
        raise InputError(f"{folder} is in the way and no results folder: choose another --output.")
    texts = {
        ENVIRONMENT: describe_environment(command),
        DATA: dataset.provenance(),
        CONFIG: as_json(config),
    }
    try:
        make_folder(folder.absolute(), texts)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror}): choose another --output."
        ) from None


def make_folder(folder: Path, texts: dict[str, Any]) -> None:
    """A folder with JSON files, complete or not there; one that is there and empty is filled.

    Nothing can be renamed onto a mount point or a link, so such a folder is filled in order, the
    last file being the one that it is known by.
    """
    if folder.exists():
        for name, value in texts.items():
            write_json(folder / name, value)
        return
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        aside.mkdir(parents=True)
        for name, value in texts.items():
            write_json(aside / name, value)
        os.replace(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def without_data_dir(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the place of the data; data.json tells other images apart."""
    return {**config, "data": {**config["data"], "data_dir": None}}


def open_run(folder: Path) -> Run:
    """Read a run and its newest checkpoint.

    Raises:
      InputError: if it is not a run, its data have changed, or its checkpoint cannot be read.
    """
    resolved = resolve_run(read_config(folder, RunConfig))
    _, dataset, activation, training = resolved
    check_same(folder / DATA, read_json(folder / DATA), dataset.provenance())
    trainer = make_trainer(training, activation, dataset)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = checkpoints.restore(trainer.initial(resolved.config.seed, activation.alpha))
    return Run(folder, *resolved, state)


def provenance(run: Run, config: Any, command: str) -> dict[str, Any]:
    """What every result of a run says of its origin.

    Args:
      run: what was measured.
      config: how, a dataclass.
      command: the command line.
    """
    return {
        "activation": run.config.activation,
        "step": int(run.state.step),
        "data_source": run.dataset.source,
        "config": as_json(config),
        "environment": describe_environment(command),
    }
