"""PreAct ResNet-18: BatchNorm and activation before each convolution (He et al. 2016b).

As in the implementation that robustness papers use, nothing follows the last block but pooling and
the dense layer: no last BatchNorm, no last activation.
"""

import functools

import flax.linen as nn
from jaxtyping import Array, Float

from .layers import BatchNorm, Convolution, Dense, LayerSettings, Pointwise, global_mean, stages


class PreactBlock(nn.Module):
    """conv(sigma(norm(conv(p)))) + shortcut with p = sigma(norm(x)).

    The shortcut is x, or a 1x1 convolution of p where the shape changes. Wide ResNets have the same
    block.
    """

    settings: LayerSettings
    features: int
    stride: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], activation: Pointwise, *, train: bool
    ) -> Float[Array, "b h2 w2 f"]:
        """Features after the block."""
        conv = functools.partial(Convolution, self.settings, self.features)
        norm = functools.partial(BatchNorm, self.settings)
        y = norm(name="norm1")(x, activation, train=train)
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = conv(size=1, stride=self.stride, name="shortcut")(y)
        y = conv(stride=self.stride, name="conv1")(y)
        y = norm(name="norm2")(y, activation, train=train)
        return conv(name="conv2")(y) + shortcut


class PreactResNet(nn.Module):
    """Stem, stages of preactivation blocks, global average pooling, dense layer.

    Attributes:
      settings: activation and numeric type.
      num_classes: number of logits.
      channels: channels of the stem, then of each stage.
      blocks: number of blocks of each stage. Every stage but the first begins with stride 2.
      has_final_norm: whether BatchNorm and activation follow the last block, as in Wide ResNets.
    """

    settings: LayerSettings
    num_classes: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    has_final_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b num_classes"]:
        """Logits in float32 (float64 where dtype is that)."""
        settings = self.settings
        activation = settings.activation(self.get_variable("activation", "alpha"))
        x = Convolution(settings, self.channels[0], name="stem")(x)
        for name, features, stride in stages(self.channels[1:], self.blocks):
            x = PreactBlock(settings, features, stride, name=name)(x, activation, train=train)
        if self.has_final_norm:
            x = BatchNorm(settings, name="final_norm")(x, activation, train=train)
        dtype = settings.param_dtype
        return Dense(self.num_classes, dtype, dtype, name="dense")(global_mean(x, dtype))
