"""A trained network from wherever it is: a run's folder, a file of weights, a function.

Nothing but the network is needed: neither the images that a run was trained on nor its method.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import DataConfig, RunConfig
from rctaf_jax.data import load_data
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.config_file import CONFIG, read_config
from rctaf_jax.models import Network, load_program, load_weights, network_of
from rctaf_jax.models.normalisation import with_input
from rctaf_jax.models.program import SUFFIX
from rctaf_jax.models.weights import SUFFIXES as WEIGHTS
from rctaf_jax.plugins import PLACE, describe_error, import_part
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.methods.method import BASE
from rctaf_jax.typed_json import AtLeast1, read_typed
from rctaf_jax.values import kind_of, lookup

from .folder import BEST, DATA, Run

CHECKPOINTS = {"last": "checkpoints", "best": f"{BEST}/checkpoints"}
"""Where a run has them."""


@dataclasses.dataclass(frozen=True)
class ImageFacts:
    """What a run's data.json must say for its network to be opened."""

    class_names: Annotated[tuple[str, ...], Meta(min_length=2)]
    image_shape: tuple[AtLeast1, AtLeast1, AtLeast1]


class OpenedRun(NamedTuple):
    """A run's network.

    Attributes:
      network: with the averaged weights, where the run averages them.
      as_trained: the variables with the weights as they are; None where the run does not average.
      config: what the run was told.
    """

    network: Network
    as_trained: dict[str, Any] | None
    config: RunConfig


def load_network(
    source: str | os.PathLike[str],
    *,
    model: str | None = None,
    activation: str | Activation | None = None,
    mean: Sequence[float] | float | None = None,
    std: Sequence[float] | float | None = None,
    prefix: str | None = None,
    checkpoint: str = "last",
) -> Network:
    """A network from a run's folder, a file of weights, or a function.

    Args:
      source: a folder of `rctaf train` or one below members/ of a sweep; a file of weights, as for
        `models.load_weights`, or a program, as for `models.load_program`; or
        "package.module:function", whose function takes no arguments and
        returns a `models.Network`, or `(apply, variables)` with `apply(variables, images)` the
        logits; a `models.Network` may also stand there itself.
      model, activation, mean, std, prefix: of a file that does not say them itself; see
        `models.load_weights`.
      checkpoint: of a run: `last`, or `best`, the most robust one on the images that it held out.

    Raises:
      InputError: if there is no such network, or something must be stated, or need not be.

    Example:
      >>> load_network("nowhere")
      Traceback (most recent call last):
      rctaf_jax.errors.InputError: nowhere is no run, no file and no package.module:function.
    """
    text, path = os.fspath(source), Path(source)
    lookup("checkpoint", checkpoint, CHECKPOINTS)
    if checkpoint != "last" and not path.is_dir():
        raise InputError(f"{text} is no run, and has no {checkpoint} checkpoint: leave it out.")
    stated = {"model": model, "activation": activation, "mean": mean, "std": std, "prefix": prefix}
    if path.is_file() and path.suffix.lower() == SUFFIX:
        refuse_stated(text, **stated)
        return load_program(path)
    if path.is_file() and path.suffix.lower() not in WEIGHTS:
        raise InputError(
            f"{text} is no network: expected a file that ends in {', '.join((*WEIGHTS, SUFFIX))}, "
            "the folder of a run, or package.module:function."
        )
    if path.is_file():
        return load_weights(
            path, model=model, activation=activation, mean=mean, std=std, prefix=prefix
        )
    if path.is_dir() or PLACE.fullmatch(text):
        refuse_stated(text, **stated)
        return open_run(path, checkpoint).network if path.is_dir() else call_function(text)
    raise InputError(f"{text} is no run, no file and no package.module:function.")


def refuse_stated(text: str, **stated: Any) -> None:
    """Refuse what is said of a network that says it itself.

    Raises:
      InputError: naming what is not None.
    """
    given = [name for name, value in stated.items() if value is not None]
    if given:
        raise InputError(f"{text} says itself what it is: leave out {', '.join(given)}.")


def open_run(folder: Path, checkpoint: str = "last") -> OpenedRun:
    """A run's network from its newest checkpoint, or from its best.

    Args:
      folder: of the run.
      checkpoint: a name in `CHECKPOINTS`.

    Raises:
      InputError: if it is not a run, or its checkpoint cannot be read or was never kept.
    """
    place = folder / lookup("checkpoint", checkpoint, CHECKPOINTS)
    config = read_config(folder, RunConfig)
    images = read_typed(folder / DATA, ImageFacts)
    activation = parse_activation(config.activation)
    if checkpoint == "best" and not place.is_dir():
        raise InputError(
            f"{folder} has no best checkpoint, since it held no images out: leave it out, or train "
            "with --validation."
        )
    with Checkpoints(place) as checkpoints:
        tree = checkpoints.restore_arrays()
    try:
        variables = {
            "params": tree["weights"]["params"],
            "batch_stats": tree["statistics"][BASE],
            "activation": tree["activation"],
        }
        averaged, step = dict(tree.get("averaged") or {}), int(tree["step"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the checkpoint in {place} is not that of a run: it lacks {error}."
        ) from None
    facts = RunFacts(folder.name, step, images.image_shape, len(images.class_names))
    return _opened(config, activation, variables, averaged, facts)


def opened_run(run: Run) -> OpenedRun:
    """The network of a run that has just been trained."""
    state, dataset = run.state, run.dataset
    facts = RunFacts(run.folder.name, int(state.step), dataset.image_shape, dataset.num_classes)
    return _opened(run.config, run.activation, state.variables, state.averaged, facts)


class RunFacts(NamedTuple):
    """What a network is of: the run's folder and step, the images' shape, their classes."""

    name: str
    step: int
    image_shape: tuple[int, int, int]
    num_classes: int


def _opened(
    config: RunConfig,
    activation: Activation,
    variables: dict[str, Any],
    averaged: dict[str, Any],
    facts: RunFacts,
) -> OpenedRun:
    train = config.train
    variables = with_input(variables, train.mean, train.std, facts.image_shape[-1])
    network = network_of(
        train.model,
        {**variables, **averaged},
        activation,
        {"run": facts.name, "step": facts.step},
        width=train.width,
        num_classes=facts.num_classes,
    )
    return OpenedRun(network, variables if averaged else None, config)


def image_shape_of(source: str, images: DataConfig | None) -> tuple[int, int, int]:
    """Shape of a network's images: of those given, else of those that a run was trained on.

    Raises:
      InputError: if neither is known.
    """
    if images is not None:
        return load_data(images).image_shape
    if not is_run(source):
        raise InputError(f"{source} does not say how large its images are: give --data.")
    return read_typed(Path(source) / DATA, ImageFacts).image_shape


def is_run(source: str) -> bool:
    """Whether a folder is that of a run."""
    return (Path(source) / CONFIG).is_file()


def call_function(text: str) -> Network:
    """What "package.module:function" returns, as a network.

    Raises:
      InputError: if it cannot be imported, fails, or returns something else.
    """
    made = import_part(text)
    if not isinstance(made, Network):
        try:
            made = made()
        except Exception as error:
            raise InputError(f"{text} failed: {describe_error(error)}.") from error
    if isinstance(made, Network):
        return made._replace(facts={"function": text, **made.facts})
    if not (isinstance(made, tuple) and len(made) == 2 and callable(made[0])):
        raise InputError(
            f"{text} returned {kind_of(made)}: it must return (apply, variables), with "
            "apply(variables, images) the logits, or a rctaf_jax.models.Network."
        )
    return Network(*made, facts={"function": text})
