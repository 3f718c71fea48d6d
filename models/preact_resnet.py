"""PreAct ResNets: BatchNorm and activation before each convolution (He et al. 2016b).

Published networks of this name differ in what no shape of a parameter tells: see `PreactForm`.
"""

import functools
from dataclasses import dataclass

import flax.linen as nn
from jaxtyping import Array, Float

from .layers import BatchNorm, Convolution, Dense, LayerSettings, Pointwise, global_mean, stages


@dataclass(frozen=True)
class PreactForm:
    """How a block is put together, p = sigma(norm(x)) being its activated input.

    Attributes:
      shortcut_from_input: whether a shortcut with a convolution starts at x, else at p.
      shortcut_size: side of that convolution's kernel.
      pads_late: whether a 3x3 convolution of stride 2 has its row and column of zeros after the
          image, as in TensorFlow, and not before it, as in PyTorch.
    """

    shortcut_from_input: bool = False
    shortcut_size: int = 1
    pads_late: bool = False


class PreactBlock(nn.Module):
    """conv(sigma(norm(conv(p)))) + shortcut with p = sigma(norm(x)).

    The shortcut is x, or a convolution where the shape changes. Wide ResNets have the same block.
    """

    settings: LayerSettings
    features: int
    stride: int
    form: PreactForm = PreactForm()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], activation: Pointwise, *, train: bool
    ) -> Float[Array, "b h2 w2 f"]:
        """Features after the block."""
        form = self.form
        conv = functools.partial(Convolution, self.settings, self.features)
        norm = functools.partial(BatchNorm, self.settings)
        late = (0, 1) if form.pads_late and self.stride == 2 else None
        y = norm(name="norm1")(x, activation, train=train)
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            size = form.shortcut_size
            project = conv(
                size=size, stride=self.stride, margin=late if size == 3 else None, name="shortcut"
            )
            shortcut = project(x if form.shortcut_from_input else y)
        y = conv(stride=self.stride, margin=late, name="conv1")(y)
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
      form: of the blocks.
    """

    settings: LayerSettings
    num_classes: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    has_final_norm: bool = False
    form: PreactForm = PreactForm()

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b num_classes"]:
        """Logits in float32 (float64 where dtype is that)."""
        settings = self.settings
        activation = settings.activation(self.get_variable("activation", "alpha"))
        x = Convolution(settings, self.channels[0], name="stem")(x)
        for name, features, stride in stages(self.channels[1:], self.blocks):
            block = PreactBlock(settings, features, stride, self.form, name=name)
            x = block(x, activation, train=train)
        if self.has_final_norm:
            x = BatchNorm(settings, name="final_norm")(x, activation, train=train)
        dtype = settings.param_dtype
        return Dense(self.num_classes, dtype, dtype, name="dense")(global_mean(x, dtype))
