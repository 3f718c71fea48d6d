"""Multilayer perceptron: the network of the paper's Hessian analysis (section on (27) to (33))."""

import flax.linen as nn
from jaxtyping import Array, Float

from .layers import Dense, LayerSettings


class MLP(nn.Module):
    """Flatten, then `depth` times dense and activation, then a dense layer. No BatchNorm.

    Attributes:
      settings: activation and numeric type.
      num_classes: number of logits.
      depth: number of hidden layers.
      features: neurons of each hidden layer.
    """

    settings: LayerSettings
    num_classes: int
    depth: int
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b num_classes"]:
        """Logits in float32 (float64 where dtype is that); `train` changes nothing."""
        del train
        settings = self.settings
        activation = settings.activation(self.get_variable("activation", "alpha"))
        x = x.reshape(x.shape[0], -1)
        for i in range(self.depth):
            name = f"hidden{i + 1}"
            x = Dense(self.features, settings.dtype, settings.param_dtype, name=name)(x)
            x = activation(x)
        return Dense(self.num_classes, settings.param_dtype, settings.param_dtype, name="dense")(x)
