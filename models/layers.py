"""Layers: convolution, dense, and BatchNorm with what follows it at once.

The layers declare their parameters as zeros and ones; `initialisation.py` draws the random ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from rctaf_jax.activations import ActivationFunction
from rctaf_jax.aliases import Pointwise

from .convolution import Margin, convolve

EPSILON = 1e-5
STATISTICS_MOMENTUM = 0.9

ZEROS, ONES = nn.initializers.zeros, nn.initializers.ones


@dataclass(frozen=True)
class LayerSettings:
    """What all layers of a network share; static.

    Attributes:
      function: the activation, (x, alpha) -> sigma(x).
      dtype: type to compute in. Parameters and statistics have at least float32.
      axis_name: mapped axis over which BatchNorm's batch statistics are averaged, or None.
    """

    function: ActivationFunction
    dtype: Any
    axis_name: str | None = None

    @property
    def param_dtype(self) -> Any:
        """Type of parameters, statistics and logits: float32, or float64 where dtype is that."""
        return jnp.promote_types(self.dtype, jnp.float32)

    def activation(self, alpha: Array | None) -> Pointwise:
        """The activation at sharpness alpha (None for the baselines)."""
        return lambda x: self.function(x, alpha)


class Convolution(nn.Module):
    """Convolution without bias: see `convolve`, also for `margin`."""

    settings: LayerSettings
    features: int
    size: int = 3
    stride: int = 1
    margin: Margin | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        """Features in the settings' dtype."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", ZEROS, shape, self.settings.param_dtype)
        dtype = self.settings.dtype
        return convolve(x.astype(dtype), kernel.astype(dtype), self.stride, self.margin)


class Dense(nn.Module):
    """x @ kernel + bias in `dtype`."""

    features: int
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b f"]:
        """Affine map of the last axis."""
        kernel = self.param("kernel", ZEROS, (x.shape[-1], self.features), self.param_dtype)
        bias = self.param("bias", ZEROS, (self.features,), self.param_dtype)
        return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(self.dtype)


class BatchNorm(nn.Module):
    """then(scale (z - mean) / sqrt(var + 1e-5) + bias), statistics over all axes but the last.

    Training takes the batch's statistics, averaged over `settings.axis_name`, and moves the running
    ones: running <- 0.9 running + 0.1 batch. The running variance is the biased one (divided by n),
    as in Flax; PyTorch's is n / (n - 1) times that.

    In training, normalisation and `then` are recomputed in the backward pass, from z and the
    statistics. So z and the result are kept, and neither the normalised values nor the derivative
    of a smooth activation, which would take a whole array where ReLU takes a mask: a training step
    of ResNet-18 keeps the same 228 MB (width 1/4, batch 128) for every activation, where it would
    keep 289.
    """

    settings: LayerSettings

    @nn.compact
    def __call__(
        self, z: Float[Array, "*b c"], then: Pointwise | None = None, *, train: bool
    ) -> Float[Array, "*b c"]:
        """Normalised z, after `then` (which may add a shortcut), in z's type."""
        shape, dtype = (z.shape[-1],), self.settings.param_dtype
        scale = self.param("scale", ONES, shape, dtype)
        bias = self.param("bias", ZEROS, shape, dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        statistics = (mean.value, var.value)
        if train:
            statistics = batch_statistics(z.astype(dtype), self.settings.axis_name)
            for running, batch in zip((mean, var), statistics, strict=True):
                running.value = (
                    STATISTICS_MOMENTUM * running.value + (1 - STATISTICS_MOMENTUM) * batch
                )

        @jax.checkpoint
        def normalise(z: Array, mean: Array, var: Array, scale: Array, bias: Array) -> Array:
            factor = scale * lax.rsqrt(var + EPSILON)
            y = ((z - mean) * factor + bias).astype(z.dtype)
            return y if then is None else then(y)

        return normalise(z, *statistics, scale, bias)


def batch_statistics(
    z: Float[Array, "*b c"], axis_name: str | None
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance over all axes but the last, and over the mapped axis.

    Two passes: E[z^2] - mean^2 would cancel where the mean is large.
    """
    axes = tuple(range(z.ndim - 1))
    mean = z.mean(axes)
    if axis_name is not None:
        mean = lax.pmean(mean, axis_name)
    var = jnp.square(z - mean).mean(axes)
    if axis_name is not None:
        var = lax.pmean(var, axis_name)
    return mean, var


def stages(channels: Sequence[int], blocks: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    """(name, features, stride) of each block; every stage but the first begins with stride 2.

    Example:
      >>> list(stages((16, 32), (1, 2)))
      [('stage1_block1', 16, 1), ('stage2_block1', 32, 2), ('stage2_block2', 32, 1)]
    """
    for i, (features, number) in enumerate(zip(channels, blocks, strict=True)):
        for j in range(number):
            yield f"stage{i + 1}_block{j + 1}", features, 2 if i > 0 and j == 0 else 1


def global_mean(x: Float[Array, "b h w c"], dtype: Any) -> Float[Array, "b c"]:
    """Global average pooling, in `dtype`."""
    return x.astype(dtype).mean((1, 2))
