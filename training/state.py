"""The state of training: arrays only, all that is needed to go on bit for bit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

MOMENTUM = 0.9


class TrainState(NamedTuple):
    """What one step hands to the next.

    Attributes:
      step: number of optimiser steps taken.
      params: the network's weights.
      batch_stats: BatchNorm's running statistics.
      activation: the activation's own arrays (alpha for the RCT-AF family).
      optimizer: the optimiser's momentum.
      seed: key data from which every random draw of training is folded.
    """

    step: Int[Array, ""]
    params: PyTree
    batch_stats: PyTree
    activation: PyTree
    optimizer: PyTree
    seed: Array

    @property
    def variables(self) -> dict[str, PyTree]:
        """As the model's `apply` takes them."""
        return {
            "params": self.params,
            "batch_stats": self.batch_stats,
            "activation": self.activation,
        }


def sgd(weight_decay: float) -> optax.GradientTransformation:
    """SGD with momentum 0.9, not Nesterov, weight decay added to the gradient (coupled).

    The learning rate multiplies the update afterwards, so that it can be traced.
    """
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(MOMENTUM))


def initial_state(
    variables: dict[str, PyTree], optimizer: optax.GradientTransformation, key: PRNGKeyArray
) -> TrainState:
    """Step 0 of training `variables`, as the model's `init` makes them."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        activation=variables["activation"],
        optimizer=optimizer.init(variables["params"]),
        seed=jax.random.key_data(key),
    )
