"""Curvature of an activation: the largest |sigma''|, and the alpha that gives a wanted one.

sigma(x) = g_beta(alpha x) / alpha, so sigma''(x) = alpha g_beta''(alpha x) and

    max |sigma''| = alpha * max |g_beta''|.

The constant is g_beta''(0) = 2^(beta - 2) for beta <= 4: alpha / 4, alpha / 2, alpha, 2 alpha,
4 alpha. From beta = 5 on an outer extremum is larger (10.357 at |u| = 1.96 against 8 for beta = 5),
so the constants here come from the extrema themselves.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax.core import Tracer

from rctaf_jax.errors import InputError

from .polynomial import check_index, horner, rct_polynomial, split

LARGEST_BETA = 20


class Extremum(NamedTuple):
    """A local maximum or minimum of g_beta''."""

    location: float  # u
    value: float  # g_beta''(u)


class Curvature(NamedTuple):
    """The largest |sigma''| of an activation, and where it is.

    value: max |sigma''|, a supremum where `note` says so, inf where sigma' jumps.
    location: x of the maximum (the right one of a symmetric pair), of the kink or the jump.
    note: what value means; empty for a maximum that is attained.
    paper_value: what Table 1 of the paper gives, or None.
    """

    value: float
    location: float
    note: str = ""
    paper_value: float | None = None


def _zeros(function: Callable[[np.ndarray], np.ndarray], grid: np.ndarray) -> np.ndarray:
    """Zeros between grid points where the sign changes, by bisection to the last float64 bit."""
    values = function(grid)
    crossing = np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0)
    low, high = grid[crossing], grid[crossing + 1]
    is_rising = values[crossing] < 0
    for _ in range(60):
        middle = (low + high) / 2
        is_left = (function(middle) < 0) == is_rising
        low, high = np.where(is_left, middle, low), np.where(is_left, high, middle)
    return (low + high) / 2


def _family_derivative(beta: int, order: int, u: np.ndarray) -> np.ndarray:
    """g_beta^(order)(u) in float64 for u <= 0 and order >= 2."""
    exponential = np.exp(u)
    q = exponential / (1 + exponential) ** 2
    r = -np.expm1(u) / (1 + exponential)
    return q * horner(split(rct_polynomial(beta, order)).decaying, (r, u, q))


def curvature_extrema(beta: int) -> tuple[Extremum, ...]:
    """All extrema of g_beta'', from left to right, in float64.

    g_beta'' is even, so 0 is one of them and the others come in pairs. The paper's count of
    2 beta + 1 (Figure 2 shows beta = 0, 1, 2) holds for beta <= 10; there are 2 beta + 5 from 11
    to 19 and 2 beta + 9 at 20. The outermost lies at |u| = 3.4, 5.5, 7.7, ... for beta = 1, 2, 3.

    Args:
      beta: number of recursions, a Python int from 0 to 20; relative errors of the values stay
          below 1e-12 for beta <= 9 and 1e-8 for all.

    Raises:
      InputError: beta is not such an int.

    Example:
      >>> [(round(u, 3), round(v, 3)) for u, v in curvature_extrema(1)]
      [(-3.436, -0.037), (0.0, 0.5), (3.436, -0.037)]
    """
    check_index("beta", beta)
    if beta > LARGEST_BETA:
        raise InputError(
            f"beta is {beta}; extrema are known for beta <= {LARGEST_BETA}, where float64 still "
            "resolves them."
        )
    return _extrema(beta)


@functools.cache
def _extrema(beta: int) -> tuple[Extremum, ...]:
    # Neighbouring zeros are at least 0.03 apart, the outermost below 3 beta + 4: steps of 0.01.
    grid = np.linspace(-(3.0 * beta + 10.0), -1e-3, 300 * (beta + 3))
    left = _zeros(functools.partial(_family_derivative, beta, 3), grid)
    u = np.concatenate([left, [0.0], -left[::-1]])
    values = _family_derivative(beta, 2, -np.abs(u))
    return tuple(Extremum(float(a), float(b)) for a, b in zip(u, values, strict=True))


def _peak(beta: int) -> Extremum:
    """The extremum of largest magnitude, at u >= 0."""
    right = [e for e in curvature_extrema(beta) if e.location >= 0]
    return max(right, key=lambda e: abs(e.value))


def max_curvature(alpha: Any, *, beta: int) -> Any:
    """Largest second derivative of RCT-AF, alpha * max |g_beta''|.

    Args:
      alpha: a float or array > 0, possibly traced.
      beta: number of recursions, a Python int >= 0.

    Returns:
      A float for a float, else an array of alpha's shape.

    Raises:
      InputError: beta is not an int >= 0, or a concrete alpha is not positive and finite.

    Example:
      >>> max_curvature(14.0, beta=1)
      7.0
    """
    check_positive_array("alpha", alpha)
    return alpha * abs(_peak(beta).value)


def alpha_for_curvature(curvature: Any, *, beta: int) -> Any:
    """The alpha at which RCT-AF has the given max |sigma''|: the inverse of `max_curvature`.

    Args:
      curvature: a float or array > 0, possibly traced.
      beta: number of recursions, a Python int >= 0.

    Returns:
      A float for a float, else an array of curvature's shape.

    Raises:
      InputError: beta is not an int >= 0, or a concrete curvature is not positive and finite.

    Example:
      >>> alpha_for_curvature(7.0, beta=0)
      28.0
    """
    check_positive_array("curvature", curvature)
    return curvature / abs(_peak(beta).value)


def check_positive_array(name: str, value: Any) -> None:
    """Raises InputError unless value is traced, or positive and finite throughout.

    Example:
      >>> check_positive_array("alpha", 1.0)
    """
    if isinstance(value, Tracer):
        return
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is {value!r}; it must be a number or an array.") from error
    if not np.all((numbers > 0) & np.isfinite(numbers)):
        raise InputError(f"{name} is {value}; it must be positive and finite.")


def family_curvature(beta: int, alpha: float) -> Curvature:
    """Curvature of RCT-AF.

    Example:
      >>> family_curvature(1, 14.0)
      Curvature(value=7.0, location=0.0, note='', paper_value=None)
    """
    return Curvature(max_curvature(alpha, beta=beta), _peak(beta).location / alpha)
