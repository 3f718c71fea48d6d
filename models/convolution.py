"""Two-dimensional convolution with 1x1 and 3x3 kernels, in the form that suits the backend.

    y[b, p, q, :] = sum_{i, j} x[b, s p + i - r, s q + j - r, :] @ kernel[i, j],   r = size // 2

with x zero outside: PyTorch's `padding=size // 2`. XLA's "SAME" pads differently at stride 2 for
even sizes.

Accelerators take `native`. XLA:CPU's convolution, its input gradient above all, is 4 to 6 times
slower inside a loop on the device than outside it, and 6 to 20 times under `vmap` over kernels;
`row_products`, made of slices and matrix products, costs the same everywhere. Its price
is memory: the patches stay for the kernel's gradient, so a training step of ResNet-18 takes about
three times the memory of `native`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError

Images = Float[Array, "batch height width channels"]
Kernel = Float[Array, "size size channels features"]
Convolve = Callable[[Images, Kernel, int], Images]


def convolve(x: Images, kernel: Kernel, stride: int = 1) -> Images:
    """Cross-correlation with zero padding of size // 2 on every side.

    Args:
        x: images or features, [batch, height, width, channels].
        kernel: [size, size, channels, features], size 1 or 3, of x's type.
        stride: 1 or more, the same in both directions.

    Returns:
        [batch, (height - 1) // stride + 1, (width - 1) // stride + 1, features].

    Raises:
        InputError: the kernel is neither 1x1 nor 3x3, or its channels are not x's.

    Example:
        >>> convolve(jnp.ones((1, 5, 4, 2)), jnp.ones((3, 3, 2, 7)), stride=2).shape
        (1, 3, 2, 7)
    """
    if kernel.shape[:2] not in ((1, 1), (3, 3)) or kernel.shape[2] != x.shape[-1]:
        raise InputError(
            f"kernel has shape {kernel.shape} for {x.shape[-1]} channels; it must be "
            "(1, 1, channels, features) or (3, 3, channels, features)."
        )
    return _implementation()(x, kernel, stride)


def _implementation() -> Convolve:
    """The one place where the backend decides, at trace time."""
    return row_products if jax.default_backend() == "cpu" else native


def native(x: Images, kernel: Kernel, stride: int) -> Images:
    """`convolve` as XLA's own convolution."""
    padding = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def row_products(x: Images, kernel: Kernel, stride: int) -> Images:
    """`convolve` as one matrix product for each kernel row, over horizontal patches.

    Patches of one row are three times the input; those of all nine taps would be nine times, and
    slower, because the copies are bound by memory.
    """
    size, _, channels, features = kernel.shape
    height, width = ((n - 1) // stride + 1 for n in x.shape[1:3])
    margin = (size // 2, size // 2)
    x = jnp.pad(x, ((0, 0), margin, margin, (0, 0)))

    def row_product(i: int) -> Array:
        rows = x[:, i : i + stride * (height - 1) + 1 : stride]
        taps = [rows[:, :, j : j + stride * (width - 1) + 1 : stride] for j in range(size)]
        patches = jnp.concatenate(taps, axis=-1).reshape(-1, size * channels)
        return patches @ kernel[i].reshape(-1, features)

    total = functools.reduce(jnp.add, map(row_product, range(size)))
    return total.reshape(-1, height, width, features)
