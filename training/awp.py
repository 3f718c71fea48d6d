"""Adversarial weight perturbation (Wu et al. 2020), around any method's loss.

With v the gradient of the training loss at the weights w, every weight tensor of more than one
dimension moves against the network,

    w~ = w + gamma ||w|| / (||v|| + 1e-20) v,

the optimiser's gradient is taken at w~ and applied at w.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

NORM_FLOOR = 1e-20


def adversarial_weights(
    params: PyTree, gradient: PyTree, gamma: Float[Array, ""] | float
) -> PyTree:
    """w~; vectors (biases, BatchNorm) stay.

    Args:
      params: w.
      gradient: v, in the same structure.
      gamma: size of the perturbation relative to each tensor (0.005 in the paper).
    """

    def perturbed(weight: Array, ascent: Array) -> Array:
        if weight.ndim <= 1:
            return weight
        size = gamma * jnp.linalg.norm(weight) / (jnp.linalg.norm(ascent) + NORM_FLOOR)
        return (weight + size * ascent).astype(weight.dtype)

    return jax.tree.map(perturbed, params, gradient)
