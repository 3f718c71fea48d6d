"""From what the user said to what a run does: every value filled in, checked and built, once."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax.activations import Activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset
from rctaf_jax.errors import InputError
from rctaf_jax.models import model_kind
from rctaf_jax.models.normalisation import make_normalisation
from rctaf_jax.threat_model import threat_model
from rctaf_jax.values import check_positive, parse_number

from .augmentation import Augmentation, view_augmentations
from .budgets import BudgetSchedule, RunShape, budget_named
from .methods.method import Method, Recipe, RecipeSetting
from .methods.registry import make_method, published
from .schedules import RateSchedule, RunLength, schedule_named

REFERENCE_EPSILON = 8 / 255
DIGITS_SIDES = {"digits": 8, "digits-797": 8, "mnist-5k": 28}
"""Sides in pixels of the images of digits that `load` knows by name."""
AWP_EPOCH = 10
AVERAGED_SHARE = 3 / 4
AVERAGED_STEPS = 110 * 390
"""Steps of the shortest run with a published tau: DAJAT's 110 epochs of CIFAR-10."""

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class ResolvedTraining:
    """A training configuration with nothing left open, for one dataset.

    Attributes:
      config: as stated, with everything filled in: what `config.json` says.
      method: with its own numbers.
      schedule: multiplier of the learning rate, by step.
      budget: of the inner maximisation, by epoch.
      augmentations: by view.
      epochs, epoch_steps: passes over the data, and optimiser steps of each: its whole batches.
      learning_rate, weight_decay: of the optimiser.
      step_size: of the inner maximisation under a fixed budget, pixels in [0, 1]; else 0.
      awp, averaging: gamma and tau; 0 for none.
      awp_epoch, averaging_epoch: the first with each, from 0; None for never.
    """

    config: TrainConfig
    method: Method
    schedule: RateSchedule
    budget: BudgetSchedule
    augmentations: Mapping[str, Augmentation]
    epochs: int
    epoch_steps: int
    learning_rate: float
    weight_decay: float
    step_size: float
    awp: float
    awp_epoch: int | None
    averaging: float
    averaging_epoch: int | None

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.epoch_steps


def resolve(config: TrainConfig, dataset: Dataset) -> ResolvedTraining:
    """Fill in what was left out from the method's recipe and the data, check all, build the parts.

    What it has filled in resolves to itself.

    Raises:
      InputError: naming the value that cannot be.
    """
    recipe = recipe_of(config, dataset.num_classes)
    check(config, dataset)
    epochs = given(config.epochs, recipe.epochs)
    epoch_steps = len(dataset.train.labels) // config.batch_size
    learning_rate = given(config.learning_rate, recipe.learning_rate)
    weight_decay = given(config.weight_decay, recipe.weight_decay)
    averaging = given(config.averaging, scaled_decay(recipe.averaging, epochs * epoch_steps))
    awp, awp_epoch = resolve_awp(config, recipe, epochs)
    check_wrappers(awp, awp_epoch, averaging, epochs)
    budget = given(config.budget, recipe.budget)
    attack_steps, step_size = resolve_steps(config, recipe, budget)
    schedule = given(config.schedule, recipe.schedule)
    if schedule == "step" and not recipe.decay_epochs:
        raise InputError(
            f"{config.method} has no epochs at which the schedule step would decay: choose another "
            "--schedule."
        )
    augmentation = given(config.augmentation, "none" if is_digits(dataset) else "crop-flip")
    options = resolve_options(config.method, config.method_options, recipe.options)
    # Built before the configuration is filled in: a name that is in no table is refused here.
    built_budget = budget_named(budget, RunShape(config.norm, epochs, attack_steps or 0))
    built_schedule = schedule_named(schedule, RunLength(epochs, epoch_steps, recipe.decays))
    augmentations = view_augmentations(augmentation)
    filled = dataclasses.replace(
        config,
        method_options=tuple(f"{n.replace('_', '-')}={exact(x)}" for n, x in options.items()),
        budget=budget,  # type: ignore[arg-type]
        attack_steps=attack_steps,
        step_size=step_size,
        epochs=epochs,
        learning_rate=learning_rate,
        schedule=schedule,  # type: ignore[arg-type]
        weight_decay=weight_decay,
        awp=awp,
        awp_epoch=awp_epoch,
        averaging=averaging,
        augmentation=augmentation,  # type: ignore[arg-type]
    )
    return ResolvedTraining(
        config=filled,
        method=make_method(config.method, options),
        schedule=built_schedule,
        budget=built_budget,
        augmentations=augmentations,
        epochs=epochs,
        epoch_steps=epoch_steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        step_size=0.0 if step_size is None else step_size,
        awp=awp,
        awp_epoch=None if awp_epoch is None else awp_epoch - 1,
        averaging=averaging,
        averaging_epoch=math.ceil(AVERAGED_SHARE * epochs) - 1 if averaging else None,
    )


def given(value: Value | None, default: Value) -> Value:
    """What was stated, or the default where nothing was.

    >>> given(0, 3), given(None, 3)
    (0, 3)
    """
    return default if value is None else value


def recipe_of(config: TrainConfig, num_classes: int) -> Recipe:
    """The published recipe for a configuration's method and kind of network."""
    setting = RecipeSetting(num_classes, is_wide=model_kind(config.model) == "wide-resnet")
    return published(config.method).recipe(setting)


def is_digits(dataset: Dataset) -> bool:
    """Whether mirroring would change what an image is; others are photographs until said so."""
    side = DIGITS_SIDES.get(dataset.name.split("[")[0], 0)
    height, width, channels = dataset.image_shape
    return channels == 1 and height == width and side >= height and side % height == 0


def scaled_decay(decay: float, num_steps: int) -> float:
    """tau for a run of any length: its horizon 1 / (1 - tau) is shortened with a shorter run."""
    if not decay:
        return 0.0
    return 1 - min(1.0, (1 - decay) * max(1.0, AVERAGED_STEPS / max(num_steps, 1)))


def check_alpha(activation: Activation, dtype: str) -> None:
    """Refuse a sharpness that training's numbers would make 0 or infinite.

    Raises:
      InputError: with the range of alpha.
    """
    held = jnp.finfo(dtype)
    least, most = float(held.tiny), float(held.max)
    if activation.alpha is not None and not least <= activation.alpha <= most:
        raise InputError(
            f"{activation.text} cannot be trained in {dtype}, which holds an alpha of {least:.3g} "
            f"to {most:.3g}."
        )


def resolve_awp(config: TrainConfig, recipe: Recipe, epochs: int) -> tuple[float, int | None]:
    """Size of the weight perturbation and its first epoch, from 1: the 10th of a full run.

    A shorter run begins sooner; without a perturbation the epoch is as stated.
    """
    awp = given(config.awp, recipe.awp)
    if not awp or config.awp_epoch is not None:
        return awp, config.awp_epoch
    return awp, max(1, round(AWP_EPOCH * min(1.0, epochs / recipe.epochs)))


def resolve_steps(
    config: TrainConfig, recipe: Recipe, budget: str
) -> tuple[int | None, float | None]:
    """Number and size of the inner maximisation's steps under the budget "fixed", else None.

    Raises:
      InputError: for an unknown budget, or if the budget and the steps do not fit.
    """
    budget_named(budget, RunShape(config.norm, 1, 1))
    if recipe.attack_steps == 0 and budget != "fixed":
        raise InputError(f"{config.method} has no inner maximisation: leave out budget {budget!r}.")
    if budget != "fixed":
        if (config.attack_steps, config.step_size) != (None, None):
            raise InputError(
                f"budget {budget!r} sets the steps itself: leave out attack-steps and "
                "step-size, or give the budget fixed."
            )
        return None, None
    steps = recipe.attack_steps if config.attack_steps is None else config.attack_steps
    if steps is None or (recipe.step_size is None and config.step_size is None):
        raise InputError(
            f"{config.method} has no fixed budget of its own: give attack-steps and step-size "
            f"with it, or the budget {recipe.budget}."
        )
    sizes = {
        "Linf": given(recipe.step_size, 0.0) * config.epsilon / REFERENCE_EPSILON,
        "L2": 2 * config.epsilon / max(steps, 1),
    }
    return steps, given(config.step_size, sizes[config.norm])


def resolve_options(
    method: str, stated: tuple[str, ...], published_options: Mapping[str, float]
) -> dict[str, float]:
    """All of a method's own numbers, those stated as "name=value" in place of the published.

    Raises:
      InputError: for an option that the method does not have, or one that is not a number.
    """
    options = dict(published_options)
    for text in stated:
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
            f"received {', '.join(stated)}."
        )
    return options


def exact(value: float) -> str:
    """A number in as few digits as tell it from all others.

    >>> exact(6.0), exact(1 / 3)
    ('6', '0.3333333333333333')
    """
    return repr(value).removesuffix(".0")


def check(config: TrainConfig, dataset: Dataset) -> None:
    """Refuse stated values that cannot be, whatever the recipe says of the others.

    Raises:
      InputError: naming the value that cannot be.
    """
    threat_model(config.norm, config.epsilon)
    check_positive(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        width=config.width,
    )
    normalisation = make_normalisation(config.mean, config.std)
    if normalisation is not None:
        normalisation.arrays(dataset.image_shape[-1], np.float32)  # or the channels do not fit
    if config.dtype == "float64" and not jax.config.read("jax_enable_x64"):
        raise InputError("dtype float64 needs 64-bit JAX: set the environment's JAX_ENABLE_X64=1.")
    for name in ("weight_decay", "attack_steps", "step_size"):
        value = getattr(config, name)
        if value is not None and not 0 <= value < math.inf:
            raise InputError(f"{name.replace('_', '-')} must be 0 or more; received {value}.")
    check_positive(attack_steps=config.attack_steps or None)  # no more than can be counted
    num_train = len(dataset.train.labels)
    if num_train < config.batch_size:
        raise InputError(
            f"batch size {config.batch_size} is larger than the {num_train} training images of "
            f"{dataset.name}: give a smaller one."
        )


def check_wrappers(awp: float, awp_epoch: int | None, averaging: float, epochs: int) -> None:
    """Refuse a weight perturbation or a weight average that cannot be.

    Raises:
      InputError: naming the value.
    """
    if not 0 <= awp < math.inf:
        raise InputError(f"awp must be 0 (none) or a positive number; received {awp}.")
    if awp_epoch is not None and not awp:
        raise InputError(
            f"awp-epoch {awp_epoch} without awp: give the perturbation's size too, such as "
            "--awp 0.005."
        )
    if awp_epoch is not None and not 1 <= awp_epoch <= epochs:
        raise InputError(
            f"awp-epoch must be one of the run's epochs, 1 to {epochs}; received {awp_epoch}."
        )
    if not 0 <= averaging < 1:
        raise InputError(f"averaging must be 0 (none) or a decay below 1; received {averaging}.")
