"""The pieces of one training program put together from a resolved configuration."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rctaf_jax.activations import Activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset

from ..models import Model, create
from .augmentation import view_augmentations
from .batches import DeviceData, make_sample
from .budgets import RunShape, budget_named
from .loop import Advance
from .methods.registry import make_method
from .recipe import AVERAGED_SHARE, epoch_steps, options_of, recipe_of
from .schedules import RunLength, schedule_named
from .state import TrainState, initial_state, sgd
from .step import StepPlan, TracedNumbers, make_advance, make_step


class Trainer(NamedTuple):
    """Training of one structure: model, activation family, method and data sizes.

    Attributes:
      model: the network.
      num_steps: of the whole run.
      settings: the traced numbers.
      initial: `(seed, alpha)` to the state before step 0; alpha None for a baseline.
      advance: see `step.make_advance`; not compiled, not mapped.
    """

    model: Model
    num_steps: int
    settings: TracedNumbers
    initial: Callable[[int, float | None], TrainState]
    advance: Advance


def make_trainer(
    config: TrainConfig,
    activation: Activation,
    dataset: Dataset,
    *,
    axis_name: str | None = None,
) -> Trainer:
    """Build a trainer; only the family of `activation` matters, its alpha is data.

    Args:
      config: resolved (`recipe.resolve`).
      activation: its family is compiled in.
      dataset: its sizes are compiled in.
      axis_name: the device axis that shares a batch; None if a device trains members alone.
    """
    model = create(
        config.model,
        num_classes=dataset.num_classes,
        activation=activation,
        width=config.width,
        dtype=jnp.dtype(config.dtype),
    )
    plan = make_plan(config, model, epoch_steps(config, dataset), axis_name)
    sample = make_sample(batch_size=config.batch_size, axis_name=axis_name)
    precision = jnp.promote_types(config.dtype, jnp.float32)

    @jax.jit
    def fresh(key: Array, activation_arrays: dict[str, Array]) -> TrainState:
        weights_key, run_key = jax.random.split(key)
        variables = model.init(weights_key, dataset.image_shape)
        return initial_state(
            {**variables, "activation": activation_arrays},
            plan.optimizer,
            run_key,
            plan.method,
            num_classes=dataset.num_classes,
            is_averaged=plan.averaging_epoch is not None,
        )

    def initial(seed: int, alpha: float | None) -> TrainState:
        arrays = {} if alpha is None else {"alpha": jnp.asarray(alpha, precision)}
        return fresh(jax.random.key(seed), arrays)

    numbers = (getattr(config, name) or 0.0 for name in TracedNumbers._fields)
    settings = TracedNumbers(*(jnp.asarray(number, precision) for number in numbers))
    total = int(config.epochs or 0) * plan.epoch_steps
    return Trainer(model, total, settings, initial, make_advance(make_step(plan), sample))


def make_plan(config: TrainConfig, model: Model, steps: int, axis_name: str | None) -> StepPlan:
    """What a resolved configuration compiles into a step; `steps` are those of an epoch."""
    num_epochs = int(config.epochs or 0)
    decays = recipe_of(config, model.num_classes).decays
    shape = RunShape(config.norm, num_epochs, config.attack_steps or 0)
    return StepPlan(
        apply=model.apply,
        method=make_method(config.method, options_of(config)),
        optimizer=sgd(config.weight_decay or 0.0),
        schedule=schedule_named(str(config.schedule), RunLength(num_epochs, steps, decays)),
        budget=budget_named(str(config.budget), shape),
        augmentations=view_augmentations(str(config.augmentation)),
        epoch_steps=steps,
        awp_epoch=config.awp_epoch - 1 if config.awp_epoch else None,
        averaging_epoch=math.ceil(AVERAGED_SHARE * num_epochs) - 1 if config.averaging else None,
        axis_name=axis_name,
    )


def device_data(dataset: Dataset) -> DeviceData:
    """The training split as device arrays."""
    return DeviceData(jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels))
