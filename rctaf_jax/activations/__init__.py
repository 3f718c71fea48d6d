"""The paper's subject: RCT-AF and the activations that it is compared with, and their curvature.

`polynomial` is exact algebra without JAX; `family` evaluates RCT-AF, and `curvature` knows its
max |sigma''|; `baselines` has one row for each other activation; `own` makes one of any function;
`named` turns text into an `Activation`.
"""

from .family import rct_af, rct_af_derivative
from .named import (
    Activation,
    ActivationFunction,
    activation_label,
    activation_names,
    parse_activation,
)
from .own import find_curvature, register_activation

__all__ = [
    "Activation",
    "ActivationFunction",
    "activation_label",
    "activation_names",
    "find_curvature",
    "parse_activation",
    "rct_af",
    "rct_af_derivative",
    "register_activation",
]
