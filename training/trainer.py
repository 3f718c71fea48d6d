"""The pieces of one training program put together from a resolved configuration."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rctaf_jax.activations import Activation
from rctaf_jax.data import Dataset
from rctaf_jax.models import Model, create

from .batches import DeviceData, make_sample
from .loop import Advance
from .recipe import ResolvedTraining
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
    training: ResolvedTraining,
    activation: Activation,
    dataset: Dataset,
    *,
    axis_name: str | None = None,
) -> Trainer:
    """Build a trainer; only the family of `activation` matters, its alpha is data.

    Args:
      training: what the run does, of `recipe.resolve`.
      activation: its family is compiled in.
      dataset: its sizes are compiled in.
      axis_name: the device axis that shares a batch; None if a device trains members alone.
    """
    config = training.config
    model = create(
        config.model,
        num_classes=dataset.num_classes,
        activation=activation,
        width=config.width,
        dtype=jnp.dtype(config.dtype),
        mean=config.mean,
        std=config.std,
    )
    plan = make_plan(training, model, axis_name)
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

    settings = TracedNumbers(
        epsilon=jnp.asarray(config.epsilon, precision),
        step_size=jnp.asarray(training.step_size, precision),
        learning_rate=jnp.asarray(training.learning_rate, precision),
        awp=jnp.asarray(training.awp, precision),
        averaging=jnp.asarray(training.averaging, precision),
    )
    advance = make_advance(make_step(plan), sample)
    return Trainer(model, training.num_steps, settings, initial, advance)


def make_plan(training: ResolvedTraining, model: Model, axis_name: str | None) -> StepPlan:
    """What of a run is compiled into a step."""
    return StepPlan(
        apply=model.apply,
        method=training.method,
        optimizer=sgd(training.weight_decay),
        schedule=training.schedule,
        budget=training.budget,
        augmentations=training.augmentations,
        epoch_steps=training.epoch_steps,
        awp_epoch=training.awp_epoch,
        averaging_epoch=training.averaging_epoch,
        axis_name=axis_name,
    )


def device_data(dataset: Dataset) -> DeviceData:
    """The training split as device arrays."""
    return DeviceData(jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels))
