"""Activations by name: RCT-AF at a given sharpness, and the baselines.

`parse_activation` is the one place where text becomes an activation. The function of an
`Activation` is one object a family, whatever alpha, so that it can be a static attribute of a
compiled model while alpha travels with the data.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError, MissingPartError
from rctaf_jax.plugins import find_part
from rctaf_jax.values import kind_of

from .baselines import BASELINES, SYNONYMS, Baseline, baseline_derivative
from .curvature import Curvature, alpha_for_curvature, family_curvature
from .family import rct_af, rct_af_derivative
from .own import evaluator, find_curvature, make_row
from .polynomial import check_index

_FAMILY = "rct-af"
_BETA = f"{_FAMILY}:beta="


ActivationFunction = Callable[[Array, Array | None], Array]


@dataclass(frozen=True)
class Activation:
    """An activation function and its sharpness.

    Attributes:
      name: the family, such as "rct-af:beta=1" or "gelu"; static.
      function: (x, alpha) -> sigma(x); the same object for the same family. Baselines ignore
          alpha. A name that is none of ours makes it a function of one's own.
      alpha: sharpness, None for the baselines.
      beta: number of recursions of RCT-AF, None for the baselines.

    Example:
      >>> swish = parse_activation("rct-af:beta=1,curvature=7")
      >>> swish.alpha, swish.max_curvature, swish.text
      (14.0, 7.0, 'rct-af:beta=1,alpha=14')
      >>> float(swish.derivative(0.0, 2))
      7.0
    """

    name: str
    function: ActivationFunction
    alpha: float | None
    beta: int | None = None

    @property
    def text(self) -> str:
        """Canonical text: `parse_activation(a.text) == a`."""
        if self.alpha is None:
            return self.name
        return f"{self.name},alpha={repr(self.alpha).removesuffix('.0')}"

    @property
    def curvature(self) -> Curvature:
        """max |sigma''|, where it is, and what kind of maximum it is."""
        if self.beta is None or self.alpha is None:
            row = BASELINES.get(self.name)
            return _curvature_of(self.function) if row is None else row.curvature
        return family_curvature(self.beta, self.alpha)

    @property
    def max_curvature(self) -> float:
        """max |sigma''|."""
        return self.curvature.value

    def __call__(self, x: Float[Array, "*x"]) -> Float[Array, "*x"]:
        """sigma(x) at this activation's alpha."""
        return self.derivative(x, 0)

    def derivative(self, x: Float[Array, "*x"], order: int) -> Float[Array, "*x"]:
        """d^order sigma / dx^order in closed form; order 0 is sigma itself."""
        if self.beta is None or self.alpha is None:
            if self.name not in BASELINES:
                check_index("order", order)
                return evaluator((lambda x: self.function(x, None),))(jnp.asarray(x), order)
            return baseline_derivative(self.name, x, order)
        return rct_af_derivative(x, self.alpha, beta=self.beta, order=order)


def activation_names() -> tuple[str, ...]:
    """The names that `parse_activation` knows.

    Example:
      >>> activation_names()[:3]
      ('rct-af', 'identity', 'relu')
    """
    return (_FAMILY, *BASELINES)


def activation_label(name: str) -> str:
    """An activation's name as people write it; any other text as it is.

    Args:
      name: of an `Activation`, such as "rct-af:beta=1" or "gelu".

    Example:
      >>> activation_label("rct-af:beta=1"), activation_label("leaky_relu")
      ('RCT-AF β = 1', 'Leaky ReLU')
    """
    if name.startswith(_BETA):
        return f"RCT-AF β = {name.removeprefix(_BETA)}"
    return BASELINES[name].label if name in BASELINES else name


def parse_activation(text: str | Activation) -> Activation:
    """Reads an activation from text.

    RCT-AF is `rct-af:beta=B` with exactly one of `alpha=A` (sharpness) and `curvature=C` (the
    max |sigma''| it should have); the other names stand alone. Case and spaces do not matter, and
    `-` and `_` are the same; "silu" is "swish". An `Activation` is returned as it is.

    Other names are those of `register_activation`, of installed packages' entry points
    (`rctaf_jax.activations`), and `package.module:name` of a function of an array.

    Args:
      text: such as "rct-af:beta=1,curvature=7", "RCT-AF: beta=0, alpha=28" or "gelu".

    Raises:
      MissingPartError: nobody has the name.
      InputError: a key or a value is not one of those.

    Example:
      >>> parse_activation("rct-af:beta=0,curvature=7").alpha
      28.0
      >>> parse_activation("GELU").text
      'gelu'
    """
    if isinstance(text, Activation):
        return text
    if not isinstance(text, str):
        raise InputError(f"activation is {text!r}; it must be text such as {_EXAMPLE!r}.")
    name, colon, settings = "".join(text.lower().split()).partition(":")
    known = {n.replace("-", "_"): n for n in activation_names()}
    name = SYNONYMS.get(name, name)
    canonical = known.get(name.replace("-", "_"))
    if canonical is None:
        canonical = _from_elsewhere(text.strip())
    if canonical is None:
        raise MissingPartError(
            f"unknown activation {text!r}; known are {', '.join(activation_names())}, the first "
            f"with settings, such as {_EXAMPLE!r}; or a name of a package that must be installed, "
            "or package.module:name."
        )
    if canonical == _FAMILY:
        return _family_activation(text, _settings(text, settings))
    if colon and canonical != text.strip():
        raise InputError(f"activation {text!r}: {canonical} takes no settings.")
    return Activation(canonical, _baseline_function(canonical), None)


def _from_elsewhere(name: str) -> str | None:
    """Registers what an installed package, or `package.module:name`, has under a name."""
    if name in BASELINES:
        return name
    part = find_part("activations", name)
    if part is None:
        return None
    if isinstance(part, Baseline):
        BASELINES[name] = part
    elif callable(part):
        BASELINES[name] = make_row(name, part)
    else:
        raise InputError(
            f"activation {name} is {kind_of(part)}: it must be a function of an array."
        )
    return name


_EXAMPLE = "rct-af:beta=1,curvature=7"


def _settings(text: str, settings: str) -> dict[str, str]:
    """The key=value pairs of RCT-AF, checked for their keys only."""
    pairs = [pair.partition("=") for pair in settings.split(",")] if settings else []
    keys = [key for key, _, _ in pairs]
    if not set(keys) <= {"beta", "alpha", "curvature"} or len(set(keys)) < len(keys):
        raise InputError(
            f"activation {text!r} has the settings {', '.join(keys)}; allowed are beta, and one "
            f"of alpha and curvature, each once, such as {_EXAMPLE!r}."
        )
    if "beta" not in keys or ("alpha" in keys) == ("curvature" in keys):
        raise InputError(
            f"activation {text!r}: rct-af needs beta and exactly one of alpha and curvature, such "
            f"as {_EXAMPLE!r}."
        )
    return {key: value for key, _, value in pairs}


def _family_activation(text: str, settings: dict[str, str]) -> Activation:
    if not settings["beta"].isdecimal():
        raise InputError(
            f"activation {text!r}: beta is {settings['beta']!r}; it must be an integer >= 0."
        )
    beta = int(settings["beta"])
    key = "alpha" if "alpha" in settings else "curvature"
    try:
        number = float(settings[key])
    except ValueError:
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise InputError(
            f"activation {text!r}: {key} is {settings[key]!r}; it must be positive and finite."
        )
    alpha = number if key == "alpha" else alpha_for_curvature(number, beta=beta)
    if not (alpha > 0 and math.isfinite(alpha)):
        raise InputError(
            f"activation {text!r}: its alpha would be {alpha}; it must be positive and finite."
        )
    return Activation(f"{_BETA}{beta}", _family_function(beta), alpha, beta)


@functools.cache
def _family_function(beta: int) -> ActivationFunction:
    check_index("beta", beta)

    def function(x: Array, alpha: Array | None) -> Array:
        if alpha is None:
            raise InputError(f"rct-af:beta={beta} needs alpha; None was given.")
        return rct_af(x, alpha, beta=beta)

    return function


@functools.cache
def _curvature_of(function: ActivationFunction) -> Curvature:
    return find_curvature(lambda x: function(x, None))


@functools.cache
def _baseline_function(name: str) -> ActivationFunction:
    def function(x: Array, alpha: Array | None = None) -> Array:
        return baseline_derivative(name, x, 0)

    return function
