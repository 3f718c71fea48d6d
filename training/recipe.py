"""From what the user said to what a run does: every value filled in and checked."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset
from rctaf_jax.errors import InputError
from rctaf_jax.models import model_kind
from rctaf_jax.threat_model import threat_model
from rctaf_jax.values import check_positive, parse_number

from .augmentation import augmentation_named
from .budgets import RunShape, budget_named
from .methods.method import Recipe, RecipeSetting
from .methods.registry import published
from .schedules import RunLength, schedule_named

REFERENCE_EPSILON = 8 / 255
DIGITS_SHAPE = (8, 8, 1)
AWP_EPOCH = 10
AVERAGED_SHARE = 3 / 4
AVERAGED_STEPS = 110 * 390
"""Steps of the shortest run with a published tau: DAJAT's 110 epochs of CIFAR-10."""


def resolve(config: TrainConfig, dataset: Dataset) -> TrainConfig:
    """Fill in what was left out from the method's recipe and the data, and check all of it.

    Raises:
      InputError: naming the value that cannot be.
    """
    recipe = recipe_of(config, dataset.num_classes)
    threat_model(config.norm, config.epsilon)
    # Mirrored digits are not digits; everything else is a photograph until said otherwise.
    is_digits = dataset.name.split("[")[0] == "digits" and dataset.image_shape == DIGITS_SHAPE
    config = filled(
        config,
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        schedule=recipe.schedule,
        weight_decay=recipe.weight_decay,
        augmentation="none" if is_digits else "crop-flip",
        awp=recipe.awp,
        averaging=recipe.averaging and scaled_decay(recipe.averaging, config, recipe, dataset),
        budget=recipe.budget,
    )
    if config.awp:
        config = filled(config, awp_epoch=scaled_awp_epoch(config, recipe))
    config = with_steps(config, recipe)
    options = resolve_options(config.method, config.method_options, recipe.options)
    config = dataclasses.replace(config, method_options=options)
    check(config, dataset)
    return config


def recipe_of(config: TrainConfig, num_classes: int) -> Recipe:
    """The published recipe for a configuration's method and kind of network."""
    setting = RecipeSetting(num_classes, is_wide=model_kind(config.model) == "wide-resnet")
    return published(config.method).recipe(setting)


def filled(config: TrainConfig, **defaults: Any) -> TrainConfig:
    """The configuration, with defaults for what was left out."""
    left_out = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **left_out)


def scaled_decay(decay: float, config: TrainConfig, recipe: Recipe, dataset: Dataset) -> float:
    """tau for a run of any length: its horizon 1 / (1 - tau) is shortened with a shorter run."""
    epochs = recipe.epochs if config.epochs is None else config.epochs
    steps = epochs * (len(dataset.train.labels) // max(config.batch_size, 1))
    return 1 - min(1.0, (1 - decay) * max(1.0, AVERAGED_STEPS / max(steps, 1)))


def scaled_awp_epoch(config: TrainConfig, recipe: Recipe) -> int:
    """The first epoch with adversarial weights: the 10th of a full run, sooner in a shorter one."""
    return max(1, round(AWP_EPOCH * min(1.0, (config.epochs or 0) / recipe.epochs)))


def with_steps(config: TrainConfig, recipe: Recipe) -> TrainConfig:
    """Steps of the inner maximisation, under the one budget that takes them from the user.

    Raises:
      InputError: for an unknown budget, or if the budget and the steps do not fit.
    """
    budget_named(str(config.budget), RunShape(config.norm, 1, 1))
    given = (config.attack_steps, config.step_size)
    if recipe.attack_steps == 0 and config.budget != "fixed":
        raise InputError(
            f"{config.method} has no inner maximisation: leave out budget {config.budget!r}."
        )
    if config.budget != "fixed":
        if given != (None, None):
            raise InputError(
                f"budget {config.budget!r} sets the steps itself: leave out attack-steps and "
                "step-size, or give the budget fixed."
            )
        return config
    steps = recipe.attack_steps if config.attack_steps is None else config.attack_steps
    if steps is None or (recipe.step_size is None and config.step_size is None):
        raise InputError(
            f"{config.method} has no fixed budget of its own: give attack-steps and step-size "
            f"with it, or the budget {recipe.budget}."
        )
    sizes = {
        "Linf": (recipe.step_size or 0.0) * config.epsilon / REFERENCE_EPSILON,
        "L2": 2 * config.epsilon / max(steps, 1),
    }
    return filled(config, attack_steps=steps, step_size=sizes[config.norm])


def resolve_options(
    method: str, given: tuple[str, ...], published_options: Mapping[str, float]
) -> tuple[str, ...]:
    """All of a method's own numbers as "name=value", those given in place of the published.

    Raises:
      InputError: for an option that the method does not have, or one that is not a number.
    """
    options = dict(published_options)
    for text in given:
        name, _, value = text.partition("=")
        name = name.replace("-", "_")
        if name not in options:
            known = ", ".join(option.replace("_", "-") for option in options) or "none"
            raise InputError(f"{method} has no option {text!r}: its options are {known}.")
        options[name] = parse_number(value)
        if not (math.isfinite(options[name]) and options[name] >= 0):
            raise InputError(f"option {text!r} of {method} must be a finite number of 0 or more.")
    if options.get("temperature") == 0 or options.get("label_smoothing", 0) >= 1:
        raise InputError(
            f"{method}'s temperature must be more than 0 and its label-smoothing less than 1; "
            f"received {', '.join(given)}."
        )
    return tuple(f"{name.replace('_', '-')}={exact(value)}" for name, value in options.items())


def exact(value: float) -> str:
    """A number in as few digits as tell it from all others.

    >>> exact(6.0), exact(1 / 3)
    ('6', '0.3333333333333333')
    """
    return repr(value).removesuffix(".0")


def options_of(config: TrainConfig) -> dict[str, float]:
    """A resolved configuration's method options, as the method's maker takes them."""
    pairs = (text.partition("=") for text in config.method_options)
    return {name.replace("-", "_"): float(value) for name, _, value in pairs}


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
    schedule_named(str(config.schedule), RunLength(1, 1))
    if config.weight_decay is None or not 0 <= config.weight_decay < float("inf"):
        raise InputError(f"weight-decay must be 0 or more; received {config.weight_decay}.")
    if config.schedule == "step" and not recipe_of(config, dataset.num_classes).decay_epochs:
        raise InputError(
            f"{config.method} has no epochs at which the schedule step would decay: choose another "
            "--schedule."
        )
    if config.attack_steps is not None and config.attack_steps < 0:
        raise InputError(f"attack-steps must be 0 or more; received {config.attack_steps}.")
    if config.step_size is not None and not 0 <= config.step_size < float("inf"):
        raise InputError(f"step-size must be 0 or more; received {config.step_size}.")
    check_wrappers(config)
    num_train = len(dataset.train.labels)
    if num_train < config.batch_size:
        raise InputError(
            f"batch size {config.batch_size} is larger than the {num_train} training images of "
            f"{dataset.name}: give a smaller one."
        )


def check_wrappers(config: TrainConfig) -> None:
    """Refuse a weight perturbation or a weight average that cannot be.

    Raises:
      InputError: naming the value.
    """
    if config.awp is None or not 0 <= config.awp < float("inf"):
        raise InputError(f"awp must be 0 (none) or a positive number; received {config.awp}.")
    if config.awp_epoch is not None and not config.awp:
        raise InputError(
            f"awp-epoch {config.awp_epoch} without awp: give the perturbation's size too, such as "
            "--awp 0.005."
        )
    if config.awp_epoch is not None and not 1 <= config.awp_epoch <= (config.epochs or 0):
        raise InputError(
            f"awp-epoch must be one of the run's epochs, 1 to {config.epochs}; "
            f"received {config.awp_epoch}."
        )
    if config.averaging is None or not 0 <= config.averaging < 1:
        raise InputError(
            f"averaging must be 0 (none) or a decay below 1; received {config.averaging}."
        )


def num_steps(config: TrainConfig, dataset: Dataset) -> int:
    """Optimiser steps of the whole run; an epoch is its whole batches."""
    return int(config.epochs or 0) * epoch_steps(config, dataset)


def epoch_steps(config: TrainConfig, dataset: Dataset) -> int:
    """Optimiser steps of one epoch."""
    return len(dataset.train.labels) // config.batch_size
