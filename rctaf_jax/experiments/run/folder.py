"""A run's folder: one trained network, what it was told, and its checkpoints.

    config.json  data.json  environment.json  metrics.jsonl  checkpoints/  outcomes.npz  row.json

A sweep's members are runs too, so that each can be evaluated again on its own.
"""

import dataclasses
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import DataConfig, TrainConfig, as_json
from rctaf_jax.data import Dataset, load, subset
from rctaf_jax.errors import InputError
from rctaf_jax.files import is_free, read_json, write_json
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.state import TrainState
from rctaf_jax.training.trainer import Trainer, make_trainer

from .environment import describe_environment


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One network: which data, how it is trained, with which activation and seed."""

    data: DataConfig
    train: TrainConfig
    activation: str
    seed: int


class Run(NamedTuple):
    """A run read back from its folder."""

    folder: Path
    config: RunConfig
    dataset: Dataset
    activation: Activation
    trainer: Trainer
    state: TrainState


def load_data(config: DataConfig) -> Dataset:
    """The images a configuration asks for."""
    return subset(load(config.name, config.data_dir), config.num_train, config.num_test)


def claim_folder(folder: Path, config: Any, dataset: Dataset, command: str) -> None:
    """Make a results folder for `config`, or find that it was made for the same one.

    Raises:
      InputError: if the folder belongs to another configuration or other data.
    """
    stated = json.loads(json.dumps(as_json(config)))
    if (folder / "config.json").exists():
        found = read_json(folder / "config.json")
        check_same(folder / "config.json", without_data_dir(found), without_data_dir(stated))
        check_same(folder / "data.json", read_json(folder / "data.json"), dataset.provenance())
        return
    if folder.exists() and not is_free(folder):
        raise InputError(f"{folder} is in the way and no results folder: choose another --output.")
    texts = {
        "environment.json": describe_environment(command),
        "data.json": dataset.provenance(),
        "config.json": stated,
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


def check_same(path: Path, found: dict[str, Any], stated: dict[str, Any]) -> None:
    """Refuse to mix results of two configurations.

    Raises:
      InputError: naming the first difference.
    """
    there, here = flatten(found), flatten(stated)
    for key in sorted(there.keys() | here.keys()):
        if there.get(key) != here.get(key):
            raise InputError(
                f"{path} says {key} = {there.get(key)}, this command {here.get(key)}: "
                "choose another --output, or give the same settings to go on."
            )


def without_data_dir(config: dict[str, Any]) -> dict[str, Any]:
    """A flat configuration without the place of the data; data.json tells other images apart."""
    return {name: value for name, value in flatten(config).items() if name != "data.data_dir"}


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, keys joined by dots."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf
        for name, inner in value.items()
        for key, leaf in flatten(inner, f"{prefix}.{name}" if prefix else name).items()
    }


def read_config(folder: Path) -> RunConfig:
    """What a run was told.

    Raises:
      InputError: if `folder` is not a run's.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} is not the folder of a run: it has no config.json.")
    stated = read_json(folder / "config.json")
    try:
        options = tuple(stated["train"]["method_options"])
        return RunConfig(
            data=DataConfig(**stated["data"]),
            train=TrainConfig(**{**stated["train"], "method_options": options}),
            activation=stated["activation"],
            seed=stated["seed"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{folder / 'config.json'} is not the configuration of a run ({error}): "
            "give the folder of `rctaf train`, or one below members/ of a sweep."
        ) from None


def open_run(folder: Path) -> Run:
    """Read a run and its newest checkpoint.

    Raises:
      InputError: if it is not a run, its data have changed, or its checkpoint cannot be read.
    """
    config = read_config(folder)
    dataset = load_data(config.data)
    check_same(folder / "data.json", read_json(folder / "data.json"), dataset.provenance())
    activation = parse_activation(config.activation)
    trainer = make_trainer(config.train, activation, dataset)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = checkpoints.restore(trainer.initial(config.seed, activation.alpha))
    return Run(folder, config, dataset, activation, trainer, state)
