"""ResNets for small images: activation after addition (He et al. 2016a), 3x3 stem, no max pooling.

`ResNet` covers the CIFAR ResNet-18 (blocks 2-2-2-2, channels 64-128-256-512, stem stride 1) and
`resnet-mini` for 8x8 images (blocks 1-1, channels 16-32, stem stride 2).
"""

import functools

import flax.linen as nn
from jaxtyping import Array, Float

from .layers import BatchNorm, Convolution, Dense, LayerSettings, Pointwise, global_mean, stages


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


class ResNet(nn.Module):
    """Stem, stages of basic blocks, global average pooling, dense layer.

    Attributes:
      settings: activation and numeric type.
      num_classes: number of logits.
      channels: channels of each stage; the stem has the first's.
      blocks: number of blocks of each stage. Every stage but the first begins with stride 2.
      stem_stride: stride of the stem.
    """

    settings: LayerSettings
    num_classes: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    stem_stride: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b num_classes"]:
        """Logits in float32 (float64 where dtype is that)."""
        settings = self.settings
        activation = settings.activation(self.get_variable("activation", "alpha"))
        x = Convolution(settings, self.channels[0], stride=self.stem_stride, name="stem")(x)
        x = BatchNorm(settings, name="stem_norm")(x, activation, train=train)
        for name, features, stride in stages(self.channels, self.blocks):
            x = BasicBlock(settings, features, stride, name=name)(x, activation, train=train)
        dtype = settings.param_dtype
        return Dense(self.num_classes, dtype, dtype, name="dense")(global_mean(x, dtype))
