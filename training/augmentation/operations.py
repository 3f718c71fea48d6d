"""Operations on the grey levels of one uint8 image, with Pillow's names and arithmetic.

The enhancements go a factor of the way from a degenerate image to the image itself,

    degenerate + factor (image - degenerate),

clipped to [0, 255], fractions cut off. The factor counts in thousandths: a sum of float32 would
depend on whether a compiler fuses it with the product, and so on the device and on the program
around it.
"""

import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32, UInt8

Uint8Image = UInt8[Array, "height width channel"]
Levels = Int32[Array, "height width"]
Table = Int32[Array, "256"]
Amount = float | Float[Array | np.ndarray, ""]

_LUMA = np.array([19595, 38470, 7471], np.int32)


def brightness(image: Uint8Image, factor: Amount) -> Uint8Image:
    """Enhance from black."""
    return _enhance(0, image, factor)


def contrast(image: Uint8Image, factor: Amount) -> Uint8Image:
    """Enhance from the mean of the image's greys, rounded half up."""
    num_pixels = image.shape[0] * image.shape[1]
    mean = (2 * grey(image).sum() + num_pixels) // (2 * num_pixels)
    return _enhance(mean, image, factor)


def color(image: Uint8Image, factor: Amount) -> Uint8Image:
    """Enhance from the image's greys; does nothing to a single channel."""
    return _enhance(grey(image), image, factor)


def sharpness(image: Uint8Image, factor: Amount) -> Uint8Image:
    """Enhance from the smoothed image."""
    return _enhance(smooth(image), image, factor)


def posterize(image: Uint8Image, bits: Amount) -> Uint8Image:
    """Keep the upper bits of each level, 1 to 8 of them."""
    dropped = jnp.asarray(8 - bits, jnp.uint8)
    return (image >> dropped) << dropped


def solarize(image: Uint8Image, threshold: Amount) -> Uint8Image:
    """Invert the levels from the threshold on."""
    return jnp.where(image < threshold, image, 255 - image)


def invert(image: Uint8Image) -> Uint8Image:
    """Turn level v into 255 - v."""
    return 255 - image


def autocontrast(image: Uint8Image) -> Uint8Image:
    """Send the darkest level of each channel to 0, the brightest to 255, fractions cut off.

    Where the fraction is 0, Pillow's float64 arithmetic may fall short of the whole number; over
    all ranges this makes 0.4 % of their levels one darker than here.
    """
    levels = image.astype(jnp.int32)
    low, high = levels.min((0, 1)), levels.max((0, 1))
    stretched = (levels - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, stretched, levels).astype(jnp.uint8)


def equalize(image: Uint8Image) -> Uint8Image:
    """Make the levels of each channel about equally frequent.

    With c_v pixels of level v, n in all and m of the brightest level that occurs,

        s = floor((n - m) / 255),    v -> min(255, floor((floor(s / 2) + sum_{w < v} c_w) / s)),

    and no change where s = 0.
    """
    return jax.vmap(_equalize_channel, 2, 2)(image)


def _equalize_channel(channel: UInt8[Array, "height width"]) -> UInt8[Array, "height width"]:
    levels = channel.astype(jnp.int32)
    count, look_up = _histogram_by_backend()
    counts = count(levels)
    step = (levels.size - counts[levels.max()]) // 255
    below = jnp.cumsum(counts) - counts
    table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, look_up(table, levels), levels).astype(jnp.uint8)


def _histogram_by_backend() -> tuple[Callable[[Levels], Table], Callable[[Table, Levels], Levels]]:
    """How to count pixels by level, and how to look every pixel up in a table.

    Indexing by pixel is slow on a TPU. Comparing with all levels is not, and is fused into the
    sums; a CPU would write the comparisons down, 256 for each pixel.
    """
    if jax.default_backend() == "cpu":
        return _count_by_index, operator.getitem
    return _count_by_comparison, _look_up_by_comparison


def _count_by_index(levels: Levels) -> Table:
    return jnp.zeros(256, jnp.int32).at[levels].add(1)


def _count_by_comparison(levels: Levels) -> Table:
    return _is_level(levels).sum((0, 1), dtype=jnp.int32)


def _look_up_by_comparison(table: Table, levels: Levels) -> Levels:
    return jnp.where(_is_level(levels), table, 0).sum(-1, dtype=jnp.int32)


def _is_level(levels: Levels) -> Bool[Array, "height width 256"]:
    return levels[..., None] == jnp.arange(256)


def grey(image: Uint8Image) -> Int32[Array, "height width 1"]:
    """ITU-R 601-2 luma in 16-bit fixed point; a single channel as it is."""
    levels = image.astype(jnp.int32)
    if image.shape[2] == 1:
        return levels
    return ((levels * _LUMA).sum(-1, keepdims=True) + 0x8000) >> 16


def smooth(image: Uint8Image) -> Uint8Image:
    """Mean of the 3x3 pixels around each, its own weight 5; the border stays as it is."""
    if min(image.shape[:2]) < 3:
        return image
    levels = image.astype(jnp.int32)
    columns = levels[:-2] + levels[1:-1] + levels[2:]
    sums = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:] + 4 * levels[1:-1, 1:-1]
    return image.at[1:-1, 1:-1].set(((2 * sums + 13) // 26).astype(jnp.uint8))


def _enhance(degenerate: Int[Array, "..."] | int, image: Uint8Image, factor: Amount) -> Uint8Image:
    thousandths = jnp.round(1000 * jnp.float32(factor)).astype(jnp.int32)
    way = thousandths * (image.astype(jnp.int32) - degenerate)
    return jnp.clip(degenerate + way // 1000, 0, 255).astype(jnp.uint8)
