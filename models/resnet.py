"""ResNets for small images: activation after addition (He et al. 2016a), 3x3 stem, no max pooling.

`ResNet` covers the CIFAR ResNet-18, -34 and -50 (channels 64-128-256-512, four times as many with
bottlenecks, stem stride 1) and `resnet-mini` for 8x8 images (blocks 1-1, channels 16-32, stem
stride 2).
"""

import functools

import flax.linen as nn
from jaxtyping import Array, Float

from .layers import BatchNorm, Convolution, Dense, LayerSettings, Pointwise, global_mean, stages

EXPANSION = 4
"""Channels that a bottleneck puts out, over those within."""


class BasicBlock(nn.Module):
    """sigma(norm(conv(sigma(norm(conv(x))))) + shortcut(x)).

    The shortcut is the identity, or a 1x1 convolution with BatchNorm where the shape changes.
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
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = conv(size=1, stride=self.stride, name="shortcut")(x)
            shortcut = norm(name="shortcut_norm")(shortcut, train=train)
        y = conv(stride=self.stride, name="conv1")(x)
        y = norm(name="norm1")(y, activation, train=train)
        y = conv(name="conv2")(y)
        return norm(name="norm2")(y, lambda y: activation(y + shortcut), train=train)


class Bottleneck(nn.Module):
    """sigma(norm(1x1(sigma(norm(3x3(sigma(norm(1x1(x)))))))) + shortcut(x)).

    The inner convolutions have a quarter of `features`; the 3x3 one has the stride.
    """

    settings: LayerSettings
    features: int
    stride: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], activation: Pointwise, *, train: bool
    ) -> Float[Array, "b h2 w2 f"]:
        """Features after the block."""
        conv = functools.partial(Convolution, self.settings)
        norm = functools.partial(BatchNorm, self.settings)
        inner = self.features // EXPANSION
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = conv(self.features, size=1, stride=self.stride, name="shortcut")(x)
            shortcut = norm(name="shortcut_norm")(shortcut, train=train)
        y = conv(inner, size=1, name="conv1")(x)
        y = norm(name="norm1")(y, activation, train=train)
        y = conv(inner, stride=self.stride, name="conv2")(y)
        y = norm(name="norm2")(y, activation, train=train)
        y = conv(self.features, size=1, name="conv3")(y)
        return norm(name="norm3")(y, lambda y: activation(y + shortcut), train=train)


class ResNet(nn.Module):
    """Stem, stages of blocks, global average pooling, dense layer.

    Attributes:
      settings: activation and numeric type.
      num_classes: number of logits.
      channels: channels of each stage; the stem has the first's, before any expansion.
      blocks: number of blocks of each stage. Every stage but the first begins with stride 2.
      stem_stride: stride of the stem.
      has_bottlenecks: whether the blocks are bottlenecks, with 4 times the stage's channels.
    """

    settings: LayerSettings
    num_classes: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    stem_stride: int = 1
    has_bottlenecks: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b num_classes"]:
        """Logits in float32 (float64 where dtype is that)."""
        settings = self.settings
        activation = settings.activation(self.get_variable("activation", "alpha"))
        x = Convolution(settings, self.channels[0], stride=self.stem_stride, name="stem")(x)
        x = BatchNorm(settings, name="stem_norm")(x, activation, train=train)
        block, expansion = (Bottleneck, EXPANSION) if self.has_bottlenecks else (BasicBlock, 1)
        for name, features, stride in stages(self.channels, self.blocks):
            layer = block(settings, expansion * features, stride, name=name)
            x = layer(x, activation, train=train)
        dtype = settings.param_dtype
        return Dense(self.num_classes, dtype, dtype, name="dense")(global_mean(x, dtype))
