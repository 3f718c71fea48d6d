"""Shear, translation and rotation of one uint8 image, in Pillow's arithmetic.

Output pixel (x, y) shows the point (u, v) of the image,

    u = u_of_column[x] + u_of_row[y],    v = v_of_column[x] + v_of_row[y],

where pixel (i, j) covers [i, i + 1) x [j, j + 1). A point outside the image shows 128. A point
inside shows the pixel that covers it or, a fraction d of the way from the centre of p_0 to that of
its right or lower neighbour p_1,

    p_0 + d ((p_1 - p_-1) + d ((2 p_-1 - 2 p_0 + p_1 - p_2) + d (p_0 - p_-1 + p_2 - p_1))),

the cubic convolution with a = -1 (Keys 1981): Pillow's bicubic, where the other coordinate is that
of a centre. Beyond an edge p is the edge's pixel.

Coordinates are 16.16 fixed point, as in Pillow's own rotation, so an image has fewer than 2^14
pixels a side. They are rounded from float64 while the program is traced: a grid is the same on
every device.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32

from .operations import Uint8Image

Coordinates = Int32[Array | np.ndarray, " size"]
PixelPlaces = Int32[Array | np.ndarray, "height width"]
Size = tuple[int, ...]

FILL = 128
_ONE = 1 << 16


class SamplingGrid(NamedTuple):
    """Where each output pixel is read, in pixels of 16.16 fixed point.

    Attributes:
      u_of_column: the horizontal coordinate's part that depends on the output column.
      u_of_row: the part that depends on the output row.
      v_of_column: of the vertical coordinate.
      v_of_row: of the vertical coordinate.
      cubic: (1, 0) for the cubic along u, (0, 1) for the cubic along v, (0, 0) for the nearest.
    """

    u_of_column: Coordinates
    u_of_row: Coordinates
    v_of_column: Coordinates
    v_of_row: Coordinates
    cubic: Int32[Array | np.ndarray, "2"]


def shear_x(image: Uint8Image, slope: float) -> Uint8Image:
    """Show (x + slope y, y) at (x, y), with the cubic."""
    return resample(image, shear_x_grid(image.shape[:2], slope))


def shear_y(image: Uint8Image, slope: float) -> Uint8Image:
    """Show (x, y + slope x) at (x, y), with the cubic."""
    return resample(image, shear_y_grid(image.shape[:2], slope))


def translate_x(image: Uint8Image, fraction: float) -> Uint8Image:
    """Show (x + fraction width, y) at (x, y), the nearest pixel."""
    return resample(image, translate_x_grid(image.shape[:2], fraction))


def translate_y(image: Uint8Image, fraction: float) -> Uint8Image:
    """Show (x, y + fraction height) at (x, y), the nearest pixel."""
    return resample(image, translate_y_grid(image.shape[:2], fraction))


def rotate(image: Uint8Image, degrees: float) -> Uint8Image:
    """Turn counterclockwise about the centre, the nearest pixel."""
    return resample(image, rotate_grid(image.shape[:2], degrees))


def shear_x_grid(size: Size, slope: float) -> SamplingGrid:
    """The grid of `shear_x`, for (height, width) pixels."""
    height, width = size
    u_of_row = _fixed(0.5 + slope * (np.arange(height) + 0.5))
    return SamplingGrid(
        _fixed(np.arange(width)), u_of_row, _zeros(width), _centres(height), _axes(1, 0)
    )


def shear_y_grid(size: Size, slope: float) -> SamplingGrid:
    """The grid of `shear_y`."""
    return _transposed(shear_x_grid(size[::-1], slope))


def translate_x_grid(size: Size, fraction: float) -> SamplingGrid:
    """The grid of `translate_x`; Pillow rounds the shift to whole pixels."""
    height, width = size
    columns = _centres(width) + _fixed(np.floor(fraction * width + 0.5))
    return SamplingGrid(columns, _zeros(height), _zeros(width), _centres(height), _axes(0, 0))


def translate_y_grid(size: Size, fraction: float) -> SamplingGrid:
    """The grid of `translate_y`."""
    return _transposed(translate_x_grid(size[::-1], fraction))


def rotate_grid(size: Size, degrees: float) -> SamplingGrid:
    """The grid of `rotate`; Pillow rounds the coefficients, then multiplies."""
    height, width = size
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = (1 - width) / 2, (1 - height) / 2
    corner_u = width / 2 + cosine * x - sine * y
    corner_v = height / 2 + sine * x + cosine * y
    columns, rows = np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32)
    return SamplingGrid(
        _fixed(cosine) * columns,
        _fixed(corner_u) + _fixed(-sine) * rows,
        _fixed(sine) * columns,
        _fixed(corner_v) + _fixed(cosine) * rows,
        _axes(0, 0),
    )


def resample(image: Uint8Image, grid: SamplingGrid) -> Uint8Image:
    """The image as seen through the grid.

    Args:
      image: uint8, [height, width, channel].
      grid: for its height and width; may be traced.

    Returns:
      An image of the same shape.
    """
    height, width, _ = image.shape
    u = grid.u_of_column + grid.u_of_row[:, None]
    v = grid.v_of_column + grid.v_of_row[:, None]
    is_inside = (u >= 0) & (u < width * _ONE) & (v >= 0) & (v < height * _ONE)
    along_u, along_v = grid.cubic[0], grid.cubic[1]
    u, v = u - along_u * (_ONE // 2), v - along_v * (_ONE // 2)
    fraction = (along_u * u + along_v * v) % _ONE
    taps = [_pixels(image, u // _ONE + k * along_u, v // _ONE + k * along_v) for k in (-1, 0, 1, 2)]
    shown = _cubic(taps, fraction[..., None])
    return jnp.where(is_inside[..., None], shown, FILL).astype(jnp.uint8)


def _pixels(image: Uint8Image, column: PixelPlaces, row: PixelPlaces) -> Uint8Image:
    """The pixels in those places, the edges' beyond them."""
    height, width, num_channels = image.shape
    place = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
    return image.reshape(-1, num_channels)[place]


def _cubic(taps: list[Uint8Image], fraction: Int32[Array, "height width 1"]) -> Array:
    """The cubic of the module's docstring in [0, 255]; p_0 where the fraction is 0."""
    before, first, second, after = (tap.astype(jnp.int32) for tap in taps)
    d = fraction.astype(jnp.float32) / _ONE
    cubed = first - before + after - second
    squared = 2 * (before - first) + second - after
    return jnp.clip(first + d * (second - before + d * (squared + d * cubed)), 0, 255)


def _fixed(values: np.ndarray | float) -> np.ndarray:
    return np.floor(np.asarray(values) * _ONE + 0.5).astype(np.int32)


def _centres(size: int) -> np.ndarray:
    return _fixed(np.arange(size) + 0.5)


def _zeros(size: int) -> np.ndarray:
    return np.zeros(size, np.int32)


def _axes(u: int, v: int) -> np.ndarray:
    return np.array([u, v], np.int32)


def _transposed(grid: SamplingGrid) -> SamplingGrid:
    """The grid of the transposed image."""
    return SamplingGrid(
        u_of_column=grid.v_of_row,
        u_of_row=grid.v_of_column,
        v_of_column=grid.u_of_row,
        v_of_row=grid.u_of_column,
        cubic=grid.cubic[::-1],
    )
