"""RCT-AF: how an activation's curvature decides adversarial robustness, in JAX.

The activations and their curvature are here; models, training, hessian and eval are subpackages.
"""

from rctaf_jax.activations import (
    Activation,
    activation_names,
    parse_activation,
    rct_af,
    rct_af_derivative,
)
from rctaf_jax.activations.curvature import (
    Curvature,
    Extremum,
    alpha_for_curvature,
    curvature_extrema,
    max_curvature,
)
from rctaf_jax.errors import InputError

__all__ = [
    "Activation",
    "Curvature",
    "Extremum",
    "InputError",
    "activation_names",
    "alpha_for_curvature",
    "curvature_extrema",
    "max_curvature",
    "parse_activation",
    "rct_af",
    "rct_af_derivative",
]
