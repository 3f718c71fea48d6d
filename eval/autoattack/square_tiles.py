"""How Square changes an image in L2 and L1: budget moves from one window to another.

Both start from a grid of tiles. A tile is two halves of opposite sign, each a pyramid with weights
sum_{k >= r} 1 / (k + 1)^decay at distance r (maximum norm) from its centre, of unit norm together.
With d the perturbation so far, W1 and W2 two random windows, U their union, and random signs rho_c
of the channels, the next perturbation is

    t_c v / ||v||  in W1,   v = rho_c tile + d_W1 / ||d_W1||  (norms of channel c),
    0  in W2 \\ W1,   and d elsewhere.

W1 takes over what W2 gives up, and what the box has left of the budget: with the slack
max(epsilon^p - ||d||^p, 0) and C channels,

    L2:  t_c = sqrt(slack / C + ||d_U,c||^2),     L1:  t_c = slack + C ||d_U,c||.

In L2 that makes the whole exactly epsilon long. In L1 it is more than there is, so that projecting
afterwards lets the rest of the image pay for W1. As in AutoAttack (Croce & Hein's version of
Andriushchenko et al. 2020, section 3.3).
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.aliases import Pixels
from rctaf_jax.threat_model import Scalar, project

from .square_windows import Moves, SidesFn, corner_of, odd_sides, sign_of, uniform_of, window_mask

PerChannel = Float[Array, "B 1 1 C"]


class TileNorm(NamedTuple):
    """What sets L2 and L1 apart.

    Attributes:
      order: p of the norm.
      decay: the exponent of the tiles' weights.
      budget: (slack [B, 1, 1, 1], ||d_U||^p of each channel) to t_c.
    """

    order: int
    decay: int
    budget: Callable[[Float[Array, "B 1 1 1"], PerChannel], PerChannel]


def _budget_l2(slack: Float[Array, "B 1 1 1"], windows: PerChannel) -> PerChannel:
    return jnp.sqrt(slack / windows.shape[-1] + windows)


def _budget_l1(slack: Float[Array, "B 1 1 1"], windows: PerChannel) -> PerChannel:
    return slack + windows.shape[-1] * windows


TILE_NORMS = {"L2": TileNorm(2, 2, _budget_l2), "L1": TileNorm(1, 4, _budget_l1)}


def tile_moves(norm: str, sides_of: SidesFn) -> Moves:
    """The moves in a norm of `TILE_NORMS`.

    Args:
      norm: `L2` or `L1`.
      sides_of: (height, width) to the window's side for each k, before it is made odd.
    """
    return Moves(functools.partial(_start, norm), functools.partial(_propose, norm, sides_of))


def _start(norm: str, keys: Array, images: Pixels, epsilon: Scalar) -> Pixels:
    height, width, channels = images.shape[1:]
    # A fifth of the shorter side, as in the official code; what is left at the edges stays clean.
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    uniform = uniform_of(keys, (rows, columns, 1 + channels))
    tiles = tiling(uniform, tile(side, norm=norm)).astype(images.dtype)
    above, before = (height - rows * side) // 2, (width - columns * side) // 2
    area = np.s_[:, above : above + rows * side, before : before + columns * side]
    perturbation = jnp.zeros(images.shape, images.dtype).at[area].set(tiles)
    # Tiles are disjoint, of unit norm. Projecting shortens; a smaller sum would waste the budget.
    length = (rows * columns * channels) ** (1 / TILE_NORMS[norm].order)
    perturbation = jnp.maximum(1, epsilon / length) * perturbation
    return project(images + perturbation, images, norm=norm, epsilon=epsilon)


def _propose(
    norm: str,
    sides_of: SidesFn,
    keys: Array,
    k: Int[Array, " B"],
    x: Pixels,
    images: Pixels,
    epsilon: Scalar,
) -> Pixels:
    _, height, width, channels = images.shape
    sides = odd_sides(sides_of(height, width), height, width)
    # `k` is traced, so tiles of every side are made beforehand, and each example picks its own.
    distinct, number = np.unique(sides, return_inverse=True)
    tiles = jnp.asarray(centred_tiles(distinct.tolist(), height, width, norm=norm), images.dtype)
    side = jnp.asarray(sides)[k]
    # Two numbers for each of two corners, one for the transpose, then a sign for each channel.
    uniform = uniform_of(keys, (5 + channels,))
    corners = [corner_of(uniform[:, i : i + 2], side, height, width) for i in (0, 2)]
    which = 2 * jnp.asarray(number, jnp.int32)[k] + (uniform[:, 4] > 0.5)
    fresh = placed(tiles, which, corners[0]) * sign_of(uniform[:, None, None, 5:])
    windows = [window_mask(corner, side, height, width) for corner in corners]
    perturbation = redistribute(x - images, fresh, *windows, norm=norm, epsilon=epsilon)
    return project(images + perturbation, images, norm=norm, epsilon=epsilon)


def redistribute(
    perturbation: Pixels,
    fresh: Pixels,
    first: Bool[Array, "B H W 1"],
    second: Bool[Array, "B H W 1"],
    *,
    norm: str,
    epsilon: Scalar,
) -> Pixels:
    """The next perturbation before projection: W1 takes over the norm of both windows.

    Args:
      perturbation: d.
      fresh: rho_c times the tile in the first window, 0 elsewhere.
      first: W1.
      second: W2.
      norm: `L2` or `L1` (static).
      epsilon: the radius (traced).
    """
    order, _, budget = TILE_NORMS[norm]

    def power(values: Pixels, where: Array | bool = True) -> PerChannel:
        return jnp.sum(jnp.abs(values) ** order, axis=(1, 2), keepdims=True, where=where)

    def unit(values: Pixels, length_power: PerChannel) -> Pixels:
        return values / (length_power ** (1 / order) + 1e-12)

    # Rounding may leave the sum above the budget, whose root would then be NaN.
    total = jnp.sum(power(perturbation), axis=3, keepdims=True)
    slack = jnp.maximum(epsilon**order - total, 0)
    new = jnp.where(first, fresh + unit(perturbation, power(perturbation, first)), 0)
    new = unit(new, power(new)) * budget(slack, power(perturbation, first | second))
    # W1 last: where the windows overlap, what it takes over must not be erased again.
    return jnp.where(first, new, jnp.where(second, 0, perturbation))


def tile(side: int, *, norm: str) -> Float[np.ndarray, "side side"]:
    """The pattern that fills a window: its upper half positive, its lower half negative.

    Args:
      side: of the window in pixels, at least 1 (where the upper half is empty).
      norm: `L2` or `L1`.

    Example:
      >>> print(tile(2, norm="L1"))
      [[ 0.02777778  0.47222222]
       [-0.02777778 -0.47222222]]
    """
    order, decay, _ = TILE_NORMS[norm]

    def normalised(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        return values / np.linalg.norm(values.ravel(), order)

    lower = -normalised(_pyramid(side - side // 2, side, decay))
    if side == 1:
        return lower
    return normalised(np.concatenate([normalised(_pyramid(side // 2, side, decay)), lower]))


def _pyramid(height: int, width: int, decay: int) -> Float[np.ndarray, "height width"]:
    rows, columns = np.ogrid[:height, :width]
    distance = np.maximum(abs(rows - height // 2), abs(columns - width // 2))
    weights = 1.0 / np.arange(1, max(height, width) // 2 + 2) ** decay
    return np.cumsum(weights[::-1])[::-1][distance]


def tiling(
    uniform: Float[Array, "B rows columns draws"], pattern: Float[np.ndarray, "side side"]
) -> Float[Array, "B height width channels"]:
    """A grid of tiles, each transposed or not, and with a sign of its own in each channel.

    Args:
      uniform: in [0, 1), for each tile: first whether it is transposed, then the channels' signs.
      pattern: the tile; height and width are the side times rows and columns.
    """
    num, rows, columns, draws = uniform.shape
    side = len(pattern)
    is_transposed = uniform[..., 0] > 0.5
    tiles = jnp.where(is_transposed[..., None, None], pattern.T, pattern)
    signs = sign_of(uniform[..., 1:])
    grid = tiles.swapaxes(2, 3)[..., None] * signs[:, :, None, :, None]
    return grid.reshape(num, rows * side, columns * side, draws - 1)


def centred_tiles(
    sides: Sequence[int], height: int, width: int, *, norm: str
) -> Float[np.ndarray, "tiles 2H 2W"]:
    """Each tile and its transpose, with the upper left corner in the middle of an empty canvas.

    Returns:
      For side number i the tile at 2 i and its transpose at 2 i + 1; `placed` reads them.
    """
    canvas = np.zeros((2 * len(sides), 2 * height, 2 * width))
    for i, side in enumerate(sides):
        pattern = tile(side, norm=norm)
        canvas[2 * i, height : height + side, width : width + side] = pattern
        canvas[2 * i + 1, height : height + side, width : width + side] = pattern.T
    return canvas


def placed(
    centred: Float[Array, "tiles 2H 2W"], number: Int[Array, " B"], corner: Int[Array, "B 2"]
) -> Float[Array, "B H W 1"]:
    """One tile for each example, its upper left corner at `corner` of an otherwise empty image."""
    height, width = centred.shape[1] // 2, centred.shape[2] // 2

    def place(i: Array, at: Array) -> Array:
        # The side varies, so the image is what moves: a slice of fixed size from the canvas.
        origin = (i, height - at[0], width - at[1])
        return jax.lax.dynamic_slice(centred, origin, (1, height, width))[0]

    return jax.vmap(place)(number, corner)[..., None]
