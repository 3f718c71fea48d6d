"""Weight averaging: theta_avg <- tau theta_avg + (1 - tau) theta after every step.

BatchNorm's statistics are averaged with the weights. Before its first epoch the average follows the
weights.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree


def moving_average(
    averaged: PyTree,
    current: PyTree,
    decay: Float[Array, ""],
    has_begun: Bool[Array, ""],
) -> PyTree:
    """The average after one more step.

    Args:
      averaged: theta_avg.
      current: theta, in the same structure.
      decay: tau (0.9996 in DAJAT).
      has_begun: false before the first epoch that is averaged.
    """

    def mixed(average: Array, value: Array) -> Array:
        tau = decay.astype(value.dtype)
        return jnp.where(has_begun, tau * average + (1 - tau) * value, value)

    return jax.tree.map(mixed, averaged, current)
