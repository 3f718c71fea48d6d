"""Where Square looks: square windows with a schedule for their side, and random corners.

Iteration t of a run changes images inside a window of side

    s = round( sqrt(p H W) ),     p = initial_fraction / 2^j,

j the number of `THRESHOLDS` below t (Andriushchenko et al. 2020, section 3). Sides are a table and
windows are masks, so that one compiled program serves all steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.aliases import Pixels
from rctaf_jax.threat_model import Scalar

THRESHOLDS = (10, 50, 200, 500, 1000, 2000, 4000)
"""The fraction is halved after each of these iterations, of `REFERENCE_QUERIES`."""
REFERENCE_QUERIES = 5000

SidesFn = Callable[[int, int], Int[np.ndarray, " num_queries"]]


class Moves(NamedTuple):
    """How images change in one norm; the keys are the examples', fresh for each call.

    Attributes:
      start: (keys, images, epsilon) to the first images.
      propose: (keys, k, x, images, epsilon) to the next ones to try.
    """

    start: Callable[[Array, Pixels, Scalar], Pixels]
    propose: Callable[[Array, Int[Array, " B"], Pixels, Pixels, Scalar], Pixels]


def window_sides(
    num_queries: int, initial_fraction: float, height: int, width: int
) -> Int[np.ndarray, " num_queries"]:
    """The window's side in each iteration, at least 1 and at most the image's shorter side.

    AutoAttack compares the iteration itself, of 5000, with the thresholds; here another number of
    queries stretches the same course, so that a short run sees small windows too.

    Example:
      >>> print(window_sides(5000, 0.8, 32, 32)[[10, 11, 4000, 4001]])
      [29 20  4  3]
    """
    iteration = np.arange(num_queries) * REFERENCE_QUERIES // num_queries
    num_halvings = np.searchsorted(THRESHOLDS, iteration)
    sides = np.rint(np.sqrt(initial_fraction / 2.0**num_halvings * height * width)).astype(int)
    return np.clip(sides, 1, min(height, width))


def odd_sides(sides: Int[np.ndarray, " n"], height: int, width: int) -> Int[np.ndarray, " n"]:
    """Windows that have a centre: odd and at least 3, where the image has room for them.

    Example:
      >>> print(odd_sides(np.array([20, 7, 1]), 32, 32), odd_sides(np.array([4]), 4, 6))
      [21  7  3] [3]
    """
    shorter = min(height, width)
    largest = shorter if shorter % 2 else shorter - 1
    return np.minimum(np.maximum(sides, 3) // 2 * 2 + 1, largest)


def corner_of(
    uniform: Float[Array, "B 2"], side: Int[Array, " B"], height: int, width: int
) -> Int[Array, "B 2"]:
    """The upper left corner of a window, floor(u (H - s + 1)) and the same for the columns.

    All positions are equally likely. The official implementation never draws the last one, H - s,
    so its squares cannot reach the last row and column.
    """
    room = jnp.array([height, width]) - side[:, None]
    return jnp.floor(uniform * (room + 1)).astype(jnp.int32)


def window_mask(
    corner: Int[Array, "B 2"], side: Int[Array, " B"], height: int, width: int
) -> Bool[Array, "B H W 1"]:
    """Which pixels lie in the window."""

    def along(first: Array, extent: int) -> Array:
        position = jnp.arange(extent) - first[:, None]
        return (position >= 0) & (position < side[:, None])

    rows, columns = along(corner[:, 0], height), along(corner[:, 1], width)
    return rows[:, :, None, None] & columns[:, None, :, None]


def uniform_of(keys: Array, shape: tuple[int, ...]) -> Float[Array, "B ..."]:
    """Draws from [0, 1) for each example; in float32, so that x64 draws the same."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32))(keys)


def sign_of(uniform: Float[Array, "..."]) -> Float[Array, "..."]:
    """Uniform numbers to signs, each -1 or 1 with probability one half."""
    return jnp.where(uniform < 0.5, -1.0, 1.0)
