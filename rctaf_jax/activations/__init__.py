"""The paper's subject: RCT-AF and the activations that it is compared with, and their curvature.

`polynomial` is exact algebra without JAX; `family` and `baselines` evaluate it; `curvature` knows
max |sigma''|; `named` turns text into an `Activation`.
"""

from .baselines import elu, gelu, identity, leaky_relu, mish, relu, selu, softplus, swish
from .family import rct_af, rct_af_derivative
from .named import Activation, ActivationFunction, activation_names, parse_activation

__all__ = [
    "Activation",
    "ActivationFunction",
    "activation_names",
    "elu",
    "gelu",
    "identity",
    "leaky_relu",
    "mish",
    "parse_activation",
    "rct_af",
    "rct_af_derivative",
    "relu",
    "selu",
    "softplus",
    "swish",
]
