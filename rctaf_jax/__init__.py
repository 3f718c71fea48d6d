"""How an activation's curvature decides adversarial robustness, in JAX: a map of what is where.

    rctaf_jax.rct_af, parse_activation, max_curvature, ...   activations and their curvature (here)
    rctaf_jax.load_network        a trained network: a run, a file of weights, a function
    rctaf_jax.models              networks: create, from_torch, load_ and save_weights, one's own
    rctaf_jax.training            train; methods, their losses for one's own loop, steps
    rctaf_jax.eval                AutoAttack, PGD, accuracies with intervals
    rctaf_jax.hessian             Hessian diagonals, exact and estimated, and their norm
    rctaf_jax.data                datasets as arrays
    rctaf_jax.losses, threat_model, parallel                 what these rooms share
    rctaf_jax.experiments         results folders as tables; the command `rctaf`

Subpackages are imported when they are first asked for. What is listed in a package's `__all__` is
public; it changes with a line in CHANGELOG.md, and everything else without.
"""

import importlib
import pkgutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rctaf_jax.activations import (
    Activation,
    activation_names,
    find_curvature,
    parse_activation,
    rct_af,
    rct_af_derivative,
    register_activation,
)
from rctaf_jax.activations.curvature import (
    Curvature,
    Extremum,
    alpha_for_curvature,
    curvature_extrema,
    max_curvature,
)
from rctaf_jax.errors import InputError

if TYPE_CHECKING:
    from rctaf_jax.experiments.run.network import load_network

# Python that is started in a clone finds the clone's `rctaf_jax/` first, without the rooms that lie
# beside it: those are in the installed package, wherever that is.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = version("rctaf-jax")

__all__ = [
    "Activation",
    "Curvature",
    "Extremum",
    "InputError",
    "activation_names",
    "alpha_for_curvature",
    "curvature_extrema",
    "find_curvature",
    "load_network",
    "max_curvature",
    "parse_activation",
    "rct_af",
    "rct_af_derivative",
    "register_activation",
]

_PACKAGES = (
    "activations",
    "data",
    "errors",
    "eval",
    "experiments",
    "hessian",
    "losses",
    "models",
    "parallel",
    "threat_model",
    "training",
)


def __getattr__(name: str) -> Any:
    """Imports a subpackage, or what needs one, when it is asked for."""
    if name in _PACKAGES:
        return importlib.import_module(f"rctaf_jax.{name}")
    if name == "load_network":
        from rctaf_jax.experiments.run.network import load_network

        return load_network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PACKAGES, "load_network"})
