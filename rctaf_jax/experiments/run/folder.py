"""A run's folder: one trained network, what it was told, and its checkpoints.

    config.json  data.json  environment.json  metrics.jsonl  checkpoints/  evaluations/  row.json
    best/checkpoints/  training.png  training.svg                            with a validation

A sweep's members are runs too, so that each can be evaluated again on its own.
"""

import dataclasses
import functools
import math
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import RunConfig, SweepConfig, TrainConfig, ValidationConfig
from rctaf_jax.data import Dataset, Split, hold_out, load_data
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.config_file import CONFIG, as_json, check_same, read_config
from rctaf_jax.files import is_free, write_json
from rctaf_jax.models import create
from rctaf_jax.training.recipe import ResolvedTraining, check_alpha, given, resolve
from rctaf_jax.training.state import TrainState
from rctaf_jax.typed_json import read_json
from rctaf_jax.values import check_positive, check_seed

from .environment import describe_environment, free_memory

DATA, ENVIRONMENT, BEST = "data.json", "environment.json", "best"
MOST_STEPS = 2**29
"""Steps are counted in 32 bits, and budgets reckon with four times an epoch's number."""
COPIES = 4
"""What training keeps of a network at least: weights, momentum, gradient, and the next weights."""


class ResolvedRun(NamedTuple):
    """A run that is known to be possible, with nothing left open.

    Attributes:
      config: filled in, the activation in its canonical text.
      dataset: what `config.data` names, without the images held out for validation.
      activation: parsed.
      training: what training does.
      validation: the images held out; None where there are none.
    """

    config: RunConfig
    dataset: Dataset
    activation: Activation
    training: ResolvedTraining
    validation: Split | None


class Run(NamedTuple):
    """A trained network, its folder, and what it was told, as in `ResolvedRun`."""

    folder: Path
    config: RunConfig
    dataset: Dataset
    activation: Activation
    training: ResolvedTraining
    validation: Split | None
    state: TrainState


def resolve_run(config: RunConfig) -> ResolvedRun:
    """Parse the activation, load the data, fill in what was left out, and check all of it.

    Raises:
      InputError: naming what cannot be.
    """
    check_seed(config.seed)
    activation = parse_activation(config.activation)
    check_alpha(activation, config.train.dtype)
    check_validation(config.validation)
    dataset, validation = images_of(config)
    training = resolve(config.train, dataset)
    check_fits(training, dataset)
    stated = config.validation
    every = given(stated.every, 1) if stated.num_examples else None
    filled = dataclasses.replace(
        config,
        train=training.config,
        activation=activation.text,
        validation=dataclasses.replace(stated, every=every),
    )
    return ResolvedRun(filled, dataset, activation, training, validation)


def check_validation(config: ValidationConfig) -> None:
    """Refuse a validation that cannot be, and what belongs to one that is not asked for.

    Raises:
      InputError: naming the value.
    """
    check_positive(validate_every=config.every, patience=config.patience)
    if config.num_examples < 0:
        raise InputError(
            f"validation must be a number of images, or 0 for none; received {config.num_examples}."
        )
    for name, value in (("validate-every", config.every), ("patience", config.patience)):
        if value is not None and not config.num_examples:
            raise InputError(
                f"{name} {value} without a validation: give --validation too, such as 1000."
            )


def images_of(config: RunConfig) -> tuple[Dataset, Split | None]:
    """A run's images: those that it trains and tests on, and those that it validates on.

    Raises:
      InputError: as `load_data` and `hold_out` do.
    """
    dataset = load_data(config.data)
    size = config.validation.num_examples
    return hold_out(dataset, size) if size else (dataset, None)


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


def count_parameters(config: TrainConfig, dataset: Dataset) -> int:
    """Of the network that a configuration asks for; nothing is allocated."""
    model = create(
        config.model, num_classes=dataset.num_classes, activation="relu", width=config.width
    )
    init = functools.partial(model.init, image_shape=dataset.image_shape)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))


def check_fits(training: ResolvedTraining, dataset: Dataset) -> None:
    """Refuse what cannot be counted or does not fit into memory.

    Args:
      training: what a run does.
      dataset: to train on.

    Raises:
      InputError: with what is needed and what there is.
    """
    config, steps = training.config, training.num_steps
    if steps > MOST_STEPS:
        raise InputError(
            f"{config.epochs:,} epochs of {dataset.name} are {steps:,} steps, and {MOST_STEPS:,} "
            "can be counted: give fewer epochs."
        )
    parameters, free = count_parameters(config, dataset), free_memory()
    needed = COPIES * parameters * (8 if config.dtype == "float64" else 4)
    if free is not None and needed > free:
        raise InputError(
            f"{config.model} of width {config.width:g} has {parameters:,} parameters, whose "
            f"training takes {needed / 1e9:,.1f} GB at least, and {free / 1e9:,.1f} GB are free: "
            "give a smaller network."
        )
