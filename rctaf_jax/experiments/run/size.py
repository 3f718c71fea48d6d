"""Whether a network and its training have a size that can be, asked before anything is made."""

import functools
import math

import jax

from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset
from rctaf_jax.errors import InputError
from rctaf_jax.models import create
from rctaf_jax.training.recipe import ResolvedTraining

from .environment import free_memory

MOST_STEPS = 2**29
"""Steps are counted in 32 bits, and budgets reckon with four times an epoch's number."""
COPIES = 4
"""What training keeps of a network at least: weights, momentum, gradient, and the next weights."""


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
