"""The pieces of one training program put together from a resolved configuration."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rctaf_jax.activations import Activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset

from ..models import Model, create
from .augmentation import augmentation_named
from .loop import Advance
from .recipe import num_steps
from .registry import method_named
from .schedules import schedule_named
from .state import TrainState, initial_state, sgd
from .step import Data, Settings, make_advance, make_sample, make_step


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
    settings: Settings
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
    precision = jnp.promote_types(config.dtype, jnp.float32)
    total = num_steps(config, dataset)
    method, recipe = method_named(config.method)
    optimizer = sgd(config.weight_decay or 0.0)
    step = make_step(
        model.apply,
        method,
        optimizer,
        schedule_named(str(config.schedule), total, recipe.decays),
        augmentation_named(str(config.augmentation)),
        norm=config.norm,
        attack_steps=config.attack_steps or 0,
        axis_name=axis_name,
    )
    sample = make_sample(batch_size=config.batch_size, axis_name=axis_name)

    @jax.jit
    def fresh(key: Array, activation_arrays: dict[str, Array]) -> TrainState:
        weights_key, run_key = jax.random.split(key)
        variables = model.init(weights_key, dataset.image_shape)
        return initial_state({**variables, "activation": activation_arrays}, optimizer, run_key)

    def initial(seed: int, alpha: float | None) -> TrainState:
        arrays = {} if alpha is None else {"alpha": jnp.asarray(alpha, precision)}
        return fresh(jax.random.key(seed), arrays)

    settings = Settings(
        epsilon=jnp.asarray(config.epsilon, precision),
        step_size=jnp.asarray(config.step_size or 0.0, precision),
        learning_rate=jnp.asarray(config.learning_rate or 0.0, precision),
    )
    return Trainer(model, total, settings, initial, make_advance(step, sample))


def device_data(dataset: Dataset) -> Data:
    """The training split as device arrays."""
    return Data(jnp.asarray(dataset.train.images), jnp.asarray(dataset.train.labels))
