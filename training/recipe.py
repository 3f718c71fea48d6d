"""From what the user said to what a run does: every value filled in and checked."""

import dataclasses

import jax

from rctaf_jax.config import TrainConfig, check_positive
from rctaf_jax.data import Dataset
from rctaf_jax.errors import InputError
from rctaf_jax.threat_model import threat_model

from .augmentation import augmentation_named
from .registry import method_named
from .schedules import schedule_named

REFERENCE_EPSILON = 8 / 255
# Mirrored digits are not digits; everything else is a photograph until said otherwise.
AUGMENTATION_BY_DATA = {"digits": "none"}


def resolve(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Fill in what was left out from the method's recipe and the data, and check all of it.

    Raises:
      InputError: naming the value that cannot be.
    """
    _, recipe = method_named(config.method)
    threat_model(config.norm, config.epsilon)
    attack_steps = recipe.attack_steps if config.attack_steps is None else config.attack_steps
    scale = config.epsilon / REFERENCE_EPSILON
    step_sizes = {"Linf": recipe.step_size * scale, "L2": 2 * config.epsilon / max(attack_steps, 1)}
    data_kind = dataset.name.split("[")[0]
    defaults = {
        "attack_steps": attack_steps,
        "step_size": step_sizes[config.norm],
        "epochs": recipe.epochs,
        "learning_rate": recipe.learning_rate,
        "schedule": recipe.schedule,
        "weight_decay": recipe.weight_decay,
        "augmentation": AUGMENTATION_BY_DATA.get(data_kind, "crop-flip"),
    }
    left_out = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    resolved = dataclasses.replace(config, **left_out)  # type: ignore[arg-type]
    check(resolved, dataset)
    return resolved


def check(config: TrainConfig, dataset: Dataset) -> None:
    """Refuse a resolved configuration that cannot run.

    Raises:
      InputError: naming the value that cannot be.
    """
    check_positive(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        width=config.width,
    )
    if config.dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise InputError("dtype float64 needs 64-bit JAX: set the environment's JAX_ENABLE_X64=1.")
    augmentation_named(str(config.augmentation))
    schedule_named(str(config.schedule), 1)
    if config.weight_decay is None or not 0 <= config.weight_decay < float("inf"):
        raise InputError(f"weight-decay must be 0 or more; received {config.weight_decay}.")
    if config.attack_steps is None or config.attack_steps < 0:
        raise InputError(f"attack-steps must be 0 or more; received {config.attack_steps}.")
    num_train = len(dataset.train.labels)
    if num_train < config.batch_size:
        raise InputError(
            f"batch size {config.batch_size} is larger than the {num_train} training images of "
            f"{dataset.name}: give a smaller one."
        )


def num_steps(config: TrainConfig, dataset: Dataset) -> int:
    """Optimiser steps of the whole run; an epoch is its whole batches."""
    return int(config.epochs or 0) * (len(dataset.train.labels) // config.batch_size)
