"""A loss along one or two directions through the parameters.

    f(a, b) = L(theta + a d_1 + b d_2)

Random directions say nothing by themselves, since layers may be rescaled without a change of the
network: Li et al. (2018) give every filter of a direction the norm of the network's own.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError

from .leaves import check_params, check_scalar
from .products import Params, ScalarLoss


def filter_normalised_direction(params: Params, key: Array) -> Params:
    """A random direction whose filters have the norms of the network's.

        d_f <- d_f ||theta_f|| / ||d_f||,      d normal

    A filter is what makes one output: the entries of an array with one index on its last axis, as
    in Flax's kernels of dense layers and convolutions. Arrays of one axis or none (biases,
    BatchNorm) stay as they are, as in Li et al.: their direction is 0.

    Args:
      params: the parameters.
      key: another one, another direction.

    Raises:
      InputError: if params have no entries or other types than floating-point ones.

    Source: Li et al. 2018 (arXiv:1712.09913), section 4.

    Example:
      >>> d = filter_normalised_direction({"kernel": 3 * jnp.ones((4, 2))}, jax.random.key(0))
      >>> bool(jnp.allclose(jnp.linalg.norm(d["kernel"], axis=0), 6))
      True
    """
    leaves, structure = jax.tree.flatten(check_params(params))
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(
        structure, [_of_filters(leaf, key) for leaf, key in zip(leaves, keys, strict=True)]
    )


def _of_filters(leaf: Float[Array, "..."], key: Array) -> Float[Array, "..."]:
    if leaf.ndim < 2:
        return jnp.zeros_like(leaf)
    drawn = jax.random.normal(key, leaf.shape, leaf.dtype)
    axes = tuple(range(leaf.ndim - 1))
    ours, theirs = (jnp.sqrt(jnp.sum(x**2, axis=axes)) for x in (drawn, leaf))
    return drawn * (theirs / ours)


def loss_slice(
    loss: ScalarLoss,
    params: Params,
    directions: Sequence[Params],
    grids: Sequence[Float[np.ndarray, " g"] | Float[Array, " g"]],
) -> Float[np.ndarray, "..."]:
    """A loss on a grid through the parameters, one value after another, in one program.

    Args:
      loss: from params to a scalar.
      params: theta, where all coordinates are 0.
      directions: one or two trees like params.
      grids: coordinates along each of them.

    Returns:
      [a] values, or [a, b].

    Raises:
      InputError: if params have no entries or other types than floating-point ones, the loss is not
          one number, there are not one or two directions with a grid each, or a direction is not
          like params.

    Example:
      >>> along = [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])]
      >>> grids = [np.arange(3), np.arange(2)]
      >>> print(loss_slice(lambda w: w[0] - w[1], jnp.zeros(2), along, grids))
      [[ 0. -1.]
       [ 1.  0.]
       [ 2.  1.]]
    """
    params = check_params(params)
    check_scalar(loss, params)
    if len(directions) not in (1, 2) or len(directions) != len(grids):
        raise InputError(
            f"got {len(directions)} directions and {len(grids)} grids: expected one or two "
            "directions and a grid for each"
        )
    for direction in directions:
        if jax.tree.map(jnp.shape, direction) != jax.tree.map(jnp.shape, params):
            raise InputError("a direction has other arrays or shapes than params")
    mesh = np.meshgrid(*(np.asarray(grid, np.float64) for grid in grids), indexing="ij")
    points = np.stack([part.ravel() for part in mesh], axis=1)

    @jax.jit
    def values(params: Params, directions: Sequence[Params], points: Array) -> Array:
        def at(point: Float[Array, " d"]) -> Float[Array, ""]:
            moved = params
            for coordinate, direction in zip(point, directions, strict=True):
                moved = jax.tree.map(
                    lambda w, d, c=coordinate: w + c.astype(w.dtype) * d, moved, direction
                )
            return loss(moved)

        return jax.lax.map(at, points)

    found = values(params, list(directions), jnp.asarray(points))
    return np.asarray(found).reshape(mesh[0].shape)
