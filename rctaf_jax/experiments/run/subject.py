"""What is measured: a network, the images, and the radius that it was trained for."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rctaf_jax.config import NetworkConfig
from rctaf_jax.data import Dataset, load_data, subset
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.config_file import as_json, check_same
from rctaf_jax.models import Network
from rctaf_jax.plugins import describe_error
from rctaf_jax.typed_json import read_json
from rctaf_jax.values import kind_of, short_name

from .environment import describe_environment
from .folder import BEST, DATA, Run, images_of
from .network import OpenedRun, is_run, load_network, open_run, opened_run, refuse_stated


class Subject(NamedTuple):
    """A network with the images to measure it on.

    Attributes:
      name: what the person called it.
      network: the network.
      dataset: its test split is attacked, its training split is the Hessian's loss.
      norm, epsilon: of the threat model that it was trained for; None where that is not known.
      method: by which it was trained, likewise.
      as_trained: see `network.OpenedRun`.
      folder: for results that are given no other.
    """

    name: str
    network: Network
    dataset: Dataset
    norm: str | None
    epsilon: float | None
    method: str | None
    as_trained: Any
    folder: Path


def open_subject(source: str, config: NetworkConfig) -> Subject:
    """A network and images, checked to fit each other.

    Args:
      source: see `network.load_network`.
      config: what the source does not say itself.

    Raises:
      InputError: if the network, or the images, are not there or do not fit.
    """
    images = config.images
    if is_run(source):
        return _checked(_of_run(Path(source), config))
    network = load_network(source, checkpoint=config.checkpoint, **config.network)
    if images is None:
        raise InputError(f"{source} does not say which images it is for: give --data.")
    dataset = load_data(images)
    folder = Path("runs") / short_name(source)
    return _checked(Subject(source, network, dataset, None, None, None, None, folder))


def subject_of(run: Run) -> Subject:
    """A run that has just been trained, on its own images."""
    return _joined(run.folder, opened_run(run), run.dataset)


def _of_run(folder: Path, config: NetworkConfig) -> Subject:
    refuse_stated(str(folder), **config.network)
    opened = open_run(folder, config.checkpoint)
    data, images = opened.config.data, config.images
    if images is not None:
        dataset = load_data(images)
    else:
        data_dir = data.data_dir if config.data_dir is None else config.data_dir
        placed = dataclasses.replace(data, data_dir=data_dir)
        dataset, _ = images_of(dataclasses.replace(opened.config, data=placed))
        check_same(folder / DATA, read_json(folder / DATA), dataset.provenance())
        if config.image_size is not None:
            raise InputError("image-size belongs to images that are stated: give --data too.")
        dataset = subset(dataset, config.num_train, config.num_test)
    # What is found of the best network lies beside it, apart from what is found of the last.
    results = folder / BEST if config.checkpoint == "best" else folder
    return _joined(folder, opened, dataset)._replace(folder=results)


def _joined(folder: Path, opened: OpenedRun, dataset: Dataset) -> Subject:
    train = opened.config.train
    return Subject(
        str(folder),
        opened.network,
        dataset,
        train.norm,
        train.epsilon,
        train.method,
        opened.as_trained,
        folder,
    )


def radius(subject: Subject, norm: str | None, epsilon: float | None) -> tuple[str, float]:
    """Norm and epsilon to measure under: as stated, else what the network was trained for.

    Args:
      subject: what is measured.
      norm, epsilon: as stated; None where they were left out.

    Raises:
      InputError: if an epsilon is missing, or the known one is of another norm.
    """
    chosen = norm or subject.norm or "Linf"
    if epsilon is not None:
        return chosen, epsilon
    if subject.epsilon is None:
        raise InputError(
            f"{subject.name} does not say for which radius it was trained: give --epsilon."
        )
    if chosen != subject.norm:
        raise InputError(
            f"the network was trained for {subject.norm}, whose radius means nothing in {chosen}: "
            "give epsilon too."
        )
    return chosen, subject.epsilon


def _checked(subject: Subject) -> Subject:
    """The subject, if its network takes its images and has a logit for each of their classes.

    Raises:
      InputError: naming what does not fit.
    """
    name, network, dataset = subject.name, subject.network, subject.dataset
    images = jax.ShapeDtypeStruct((2, *dataset.image_shape), jnp.float32)
    try:
        logits = jax.eval_shape(network.apply, network.variables, images)
    except InputError as error:
        raise InputError(f"{name} does not take the images of {dataset.name}: {error}") from None
    except Exception as error:  # of a function of somebody's own
        shape = "x".join(map(str, dataset.image_shape))
        raise InputError(
            f"{name} does not take the images of {dataset.name}, {shape} with the channels last: "
            f"{describe_error(error)}."
        ) from error
    if not hasattr(logits, "shape") or len(logits.shape) != 2 or logits.shape[0] != 2:
        found = logits.shape if hasattr(logits, "shape") else f"{kind_of(logits)}"
        raise InputError(
            f"{name} returns {found} for two images: it must return logits of shape (2, classes)."
        )
    if logits.shape[1] != dataset.num_classes:
        raise InputError(
            f"{name} has {logits.shape[1]} classes, but {dataset.name} has {dataset.num_classes}: "
            "give the images that it is for with --data."
        )
    return subject


def provenance(subject: Subject, config: Any, command: str) -> dict[str, Any]:
    """What every result says of its origin.

    Args:
      subject: what was measured.
      config: how, a dataclass.
      command: the command line.
    """
    activation = subject.network.activation
    return {
        "activation": None if activation is None else activation.text,
        **subject.network.facts,
        "data_source": subject.dataset.source,
        "config": as_json(config),
        "environment": describe_environment(command),
    }
