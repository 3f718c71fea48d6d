"""The size of a Hessian's diagonal as one number.

Equation (8) of the paper reads || diag(H) / p ||_2 on its left and the root mean square on its
right, which differ by a factor sqrt(p):

    rms = sqrt( (1/p) sum_k H_kk^2 ),      || diag(H) / p ||_2 = rms / sqrt(p).

The root mean square is the metric: it does not shrink as a network grows. The other is here under
its own name. Both are for **exact** diagonals: of a noisy estimate the squares have a bias of its
variance, which `hutchinson` removes.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError


def rms_from_diagonal(diagonal: Any) -> Float[Array, ""]:
    """Root mean square of all entries, sqrt((1/p) sum_k H_kk^2), the right side of (8).

    Args:
      diagonal: H_kk as a pytree of p entries in all, p >= 1.

    Raises:
      InputError: if it has no entries.

    Example:
      >>> float(rms_from_diagonal({"w": jnp.array([3.0, 4.0]), "b": jnp.zeros(2)}))
      2.5
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(diagonal)]
    num_entries = sum(leaf.size for leaf in leaves)
    if num_entries == 0:
        raise InputError("got a diagonal without entries: expected at least one parameter")
    # Scaled by the largest entry, so that no square leaves the range of float32.
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves if leaf.size]))
    scale = jnp.where(largest > 0, largest, 1)
    total = sum(jnp.sum((leaf / scale) ** 2) for leaf in leaves)
    return scale * jnp.sqrt(total / num_entries)


def literal_norm_from_diagonal(diagonal: Any) -> Float[Array, ""]:
    """|| diag(H) / p ||_2 = rms / sqrt(p), the left side of (8) taken literally.

    Args:
      diagonal: H_kk as a pytree of p entries in all, p >= 1.

    Raises:
      InputError: if it has no entries.

    Example:
      >>> float(literal_norm_from_diagonal({"w": jnp.array([3.0, 4.0]), "b": jnp.zeros(2)}))
      1.25
    """
    rms = rms_from_diagonal(diagonal)
    return rms / math.sqrt(sum(jnp.size(leaf) for leaf in jax.tree.leaves(diagonal)))
