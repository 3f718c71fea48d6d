"""Batches drawn on the device, the same whatever the number of devices."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, UInt8

from rctaf_jax.aliases import Classes

from .state import TrainState


class DeviceData(NamedTuple):
    """The whole training split, on the device."""

    images: UInt8[Array, "examples height width channel"]
    labels: Int[Array, " examples"]


class DeviceBatch(NamedTuple):
    """One device's share of a batch, and one key per example for its random draws."""

    images: UInt8[Array, "batch height width channel"]
    labels: Classes
    keys: PRNGKeyArray


SampleBatch = Callable[[DeviceData, TrainState], DeviceBatch]


def make_sample(*, batch_size: int, axis_name: str | None = None) -> SampleBatch:
    """Draw this device's share of the batch for the state's step.

    Each epoch is a permutation of all examples cut into whole batches; the examples left over
    differ from epoch to epoch. Order and keys depend on the step and on the place in the whole
    batch alone, never on the number of devices.
    """

    def sample(data: DeviceData, state: TrainState) -> DeviceBatch:
        order_key, example_key = jax.random.split(jax.random.wrap_key_data(state.seed))
        num_examples = data.labels.shape[0]
        epoch, position = jnp.divmod(state.step, num_examples // batch_size)
        order = jax.random.permutation(jax.random.fold_in(order_key, epoch), num_examples)
        share = batch_size // (1 if axis_name is None else jax.lax.axis_size(axis_name))
        places = jnp.arange(share)
        if axis_name is not None:
            places = places + share * jax.lax.axis_index(axis_name)
        chosen = order[position * batch_size + places]
        step_key = jax.random.fold_in(example_key, state.step)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, places)
        return DeviceBatch(data.images[chosen], data.labels[chosen], keys)

    return sample
