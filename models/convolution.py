"""Two-dimensional convolution with 1x1 and 3x3 kernels, in the form that suits the backend.

    y[b, p, q, :] = sum_{i, j} x[b, s p + i - r, s q + j - r, :] @ kernel[i, j],   r = size // 2

with x zero outside: PyTorch's `padding=size // 2`. XLA's "SAME" pads differently at stride 2 for
even sizes: its r is 0 there, as is that of networks that were first written in TensorFlow.

Accelerators take `native`. XLA:CPU's convolution, its input gradient above all, is 4 to 6 times
slower inside a loop on the device than outside it, and 6 to 20 times under `vmap` over kernels. So
the CPU takes sums and matrix products, which cost the same everywhere, as do their derivatives:
`winograd` where a network is wide, `row_products` elsewhere. Their price is memory: the patches
stay for the kernel's gradient, about twice what `native` keeps in a training step of ResNet-18.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError

Margin = tuple[int, int]
"""Rows of zeros before and after an image, and columns likewise."""
FeatureMaps = Float[Array, "batch height width channels"]
Kernel = Float[Array, "size size channels features"]
Convolve = Callable[[FeatureMaps, Kernel, int, Margin], FeatureMaps]


def convolve(
    x: FeatureMaps, kernel: Kernel, stride: int = 1, margin: Margin | None = None
) -> FeatureMaps:
    """Cross-correlation with zero padding.

    Args:
      x: images or features, [batch, height, width, channels].
      kernel: [size, size, channels, features], size 1 or 3, of x's type.
      stride: 1 or more, the same in both directions.
      margin: zeros before and after, in both directions; None is size // 2 on every side.

    Returns:
      [batch, (height - 1) // stride + 1, (width - 1) // stride + 1, features] where the margin is
      None, and (height + sum(margin) - size) // stride + 1 in general.

    Raises:
      InputError: the kernel is neither 1x1 nor 3x3, its channels are not x's, or it is larger than
        x with its margin.

    Example:
      >>> convolve(jnp.ones((1, 5, 4, 2)), jnp.ones((3, 3, 2, 7)), stride=2).shape
      (1, 3, 2, 7)
    """
    if kernel.shape[:2] not in ((1, 1), (3, 3)) or kernel.shape[2] != x.shape[-1]:
        raise InputError(
            f"kernel has shape {kernel.shape} for {x.shape[-1]} channels; it must be "
            "(1, 1, channels, features) or (3, 3, channels, features)."
        )
    half = kernel.shape[0] // 2
    margin = margin or (half, half)
    if min(x.shape[1:3]) + sum(margin) < kernel.shape[0]:
        raise InputError(
            f"images of {x.shape[1]}x{x.shape[2]} pixels are too small for this network: a "
            f"{kernel.shape[0]}x{kernel.shape[0]} convolution finds no place in them."
        )
    return _implementation()(x, kernel, stride, margin)


_is_plain = contextvars.ContextVar("is_plain", default=False)


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Trace XLA's own convolutions, for a program that is to run on any backend."""
    token = _is_plain.set(True)
    try:
        yield
    finally:
        _is_plain.reset(token)


def _implementation() -> Convolve:
    """The one place where the backend decides, at trace time."""
    return _products if jax.default_backend() == "cpu" and not _is_plain.get() else native


def _products(x: FeatureMaps, kernel: Kernel, stride: int, margin: Margin) -> FeatureMaps:
    """The faster of `winograd` and `row_products`, by shape, as measured on two CPU cores.

    Winograd's sums over the channels pay for themselves from 64 channels and features on, and
    not below 8x8 pixels, where its 16 transformed kernels are larger than the images.
    """
    is_wide = min(kernel.shape[2:]) >= 64 and min(x.shape[1:3]) >= 8
    if is_wide and stride == 1 and kernel.shape[0] == 3 and margin == (1, 1):
        return winograd(x, kernel)
    return row_products(x, kernel, stride, margin)


def native(x: FeatureMaps, kernel: Kernel, stride: int, margin: Margin) -> FeatureMaps:
    """`convolve` as XLA's own convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[margin, margin],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def row_products(x: FeatureMaps, kernel: Kernel, stride: int, margin: Margin) -> FeatureMaps:
    """`convolve` as one matrix product for each kernel row, over horizontal patches.

    Patches of one row are three times the input; those of all nine taps would be nine times, and
    slower, because the copies are bound by memory.
    """
    size, _, channels, features = kernel.shape
    height, width = ((n + sum(margin) - size) // stride + 1 for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), margin, margin, (0, 0)))

    def row_product(i: int) -> Array:
        rows = x[:, i : i + stride * (height - 1) + 1 : stride]
        taps = [rows[:, :, j : j + stride * (width - 1) + 1 : stride] for j in range(size)]
        patches = jnp.concatenate(taps, axis=-1).reshape(-1, size * channels)
        return patches @ kernel[i].reshape(-1, features)

    total = functools.reduce(jnp.add, map(row_product, range(size)))
    return total.reshape(-1, height, width, features)


def winograd(x: FeatureMaps, kernel: Kernel) -> FeatureMaps:
    """`convolve` with a 3x3 kernel and stride 1 in 16 products for each 4 pixels, instead of 36.

    Its input gradient is written as the same convolution, of the result's gradient with the kernel
    turned round: the transposed transforms would write every tile's 16 entries as whole images.

    Each tile of 2x2 results comes from the 4x4 pixels d around it (Winograd's minimal filtering
    F(2x2, 3x3); Lavin & Gray 2016, section 4.1):

        Y = A^T [ (G g G^T) * (B^T d B) ] A,

    where * multiplies entry by entry and each entry's sum over channels is a matrix product over
    all tiles. The rounding error is that of the sum itself: A and B hold only 0, 1 and -1.

    Args:
      x: [batch, height, width, channels], any size; odd sides are filled up with a zero.
      kernel: [3, 3, channels, features].

    Returns:
      [batch, height, width, features].
    """
    return _winograd_p.bind(x, kernel)


def _winograd(x: FeatureMaps, kernel: Kernel) -> FeatureMaps:
    (_, height, width, channels), features = x.shape, kernel.shape[-1]
    rows, columns = -(-height // 2), -(-width // 2)
    margins = [(0, 0), (1, 2 * rows - height + 1), (1, 2 * columns - width + 1), (0, 0)]
    x = jnp.pad(x, margins)
    spread = jnp.asarray(_G, x.dtype)
    kernel = jnp.einsum("ai,ijcf,bj->abcf", spread, kernel, spread, precision="highest")

    def products(a: int, strip: Array) -> Sequence[Array]:
        taps = _input_transform([strip[:, :, j : j + 2 * columns - 1 : 2] for j in range(4)])
        return [tap.reshape(-1, channels) @ kernel[a, b] for b, tap in enumerate(taps)]

    strips = _input_transform([x[:, i : i + 2 * rows - 1 : 2] for i in range(4)])
    lines = [_output_transform(products(a, strip)) for a, strip in enumerate(strips)]
    tiles = jnp.stack([jnp.stack(_output_transform(line)) for line in zip(*lines, strict=True)])
    tiles = tiles.reshape(2, 2, -1, rows, columns, features)  # column and row within the tile
    y = tiles.transpose(2, 3, 1, 4, 0, 5).reshape(-1, 2 * rows, 2 * columns, features)
    return y[:, :height, :width]


_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def _input_transform(d: Sequence[Array]) -> Sequence[Array]:
    """B^T d along one axis, whose four entries are given apart."""
    return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]


def _output_transform(m: Sequence[Array]) -> Sequence[Array]:
    """A^T m along one axis, whose four entries are given apart."""
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]


# A primitive, since it is differentiated in both modes and to any order: `jax.custom_vjp` has no
# forward mode, which Hessian-vector and Gauss-Newton products take.
_winograd_p = Primitive("winograd_convolution")


def _input_gradient(dy: Any, x: Any, kernel: Array) -> Any:
    if isinstance(dy, ad.Zero):
        return ad.Zero(x.aval)
    return winograd(dy, kernel[::-1, ::-1].swapaxes(2, 3))


def _kernel_gradient(dy: Any, x: Array, kernel: Any) -> Any:
    if isinstance(dy, ad.Zero):
        return ad.Zero(kernel.aval)
    like = jax.ShapeDtypeStruct(kernel.aval.shape, kernel.aval.dtype)
    return jax.linear_transpose(lambda kernel: _winograd(x, kernel), like)(dy)[0]


def _batched(arguments: Sequence[Array], axes: Sequence[int | None]) -> tuple[Array, int]:
    return jax.vmap(_winograd, axes)(*arguments), 0


_winograd_p.def_impl(jax.jit(_winograd))
_winograd_p.def_abstract_eval(lambda x, kernel: x.update(shape=(*x.shape[:3], kernel.shape[3])))
mlir.register_lowering(_winograd_p, mlir.lower_fun(_winograd, multiple_results=False))
batching.primitive_batchers[_winograd_p] = _batched
ad.defbilinear(_winograd_p, _input_gradient, _kernel_gradient)
