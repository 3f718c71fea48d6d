"""The activations that RCT-AF is compared with, each with closed-form derivatives of any order.

One evaluator a function gives its n-th derivative directly; `_curve` chains them, so that the JVP
rule of order n is order n + 1 and no formula is differentiated as code. Softplus and Swish are
members of the family (beta = 0 and 1 at alpha = 1).

Conventions where a function has a kink or a jump, all of them `jax.nn`'s: relu'(0) = 0,
leaky_relu'(0) = 1, and ELU and SELU take their exponential branch at 0, so elu''(0) = 1 and
selu'(0) = 1.7581. Second derivatives of the piecewise linear functions are 0 everywhere.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .curvature import Curvature
from .family import as_float, compute_dtype, rct_af_derivative, underflow
from .polynomial import Polynomial, check_index, derive, horner

Evaluator = Callable[[Array, int], Array]

LEAKY_SLOPE = 0.01
# Klambauer et al., Self-Normalizing Neural Networks (2017), equation (14).
SELU_ALPHA = 1.6732632423543772
SELU_SCALE = 1.0507009873554805


@functools.cache
def _curve(evaluator: Evaluator, order: int) -> Callable[[Array], Array]:
    # Inlined into larger programs; called alone, it is one dispatch instead of twenty.
    evaluate = jax.jit(evaluator, static_argnums=1, inline=True)

    @jax.custom_jvp
    def curve(x: Array) -> Array:
        return evaluate(x.astype(compute_dtype(x)), order).astype(x.dtype)

    @curve.defjvp
    def rule(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        return curve(*primals), _curve(evaluator, order + 1)(*primals) * tangents[0]

    return curve


def _linear_sides(x: Array, is_right: Array, slope: float, order: int) -> Array:
    if order == 0:
        return jnp.where(is_right, x, slope * x)
    return jnp.where(is_right, 1.0, slope) if order == 1 else jnp.zeros_like(x)


def _identity(x: Array, order: int) -> Array:
    """x itself."""
    return x if order == 0 else jnp.full_like(x, order == 1)


def _relu(x: Array, order: int) -> Array:
    """max(x, 0) (Nair and Hinton, 2010); relu'(0) = 0."""
    # max, because 0 * (-inf) would be NaN.
    return jnp.maximum(x, 0) if order == 0 else _linear_sides(x, x > 0, 0.0, order)


def _leaky_relu(x: Array, order: int) -> Array:
    """x for x >= 0, else 0.01 x, the slope of Table 1 (Maas et al., 2013)."""
    return _linear_sides(x, x >= 0, LEAKY_SLOPE, order)


def _exponential_side(scale: float, alpha: float, x: Array, order: int) -> Array:
    left = jnp.minimum(x, 0)
    left = scale * alpha * (jnp.exp(left) if order else jnp.expm1(left))
    right = scale * x if order == 0 else scale * (order == 1)
    return jnp.where(x > 0, right, left)


def _elu(x: Array, order: int) -> Array:
    """x for x > 0, else exp(x) - 1 (Clevert et al., 2016)."""
    return _exponential_side(1.0, 1.0, x, order)


def _selu(x: Array, order: int) -> Array:
    """1.0507 x for x > 0, else 1.7581 (exp(x) - 1) (Klambauer et al., 2017)."""
    return _exponential_side(SELU_SCALE, SELU_ALPHA, x, order)


@functools.cache
def gelu_polynomial(order: int) -> Polynomial:
    """P with gelu^(order) = P(x) phi(x), phi the normal density, for order >= 2.

    Example, gelu'' = (2 - x^2) phi:
      >>> gelu_polynomial(2)
      Polynomial(terms=(((0,), 2), ((2,), -1)))
    """
    if order == 2:
        return Polynomial.of([((0,), 2), ((2,), -1)])
    lower = gelu_polynomial(order - 1)
    # (P phi)' = (P' - x P) phi
    one, minus_x = Polynomial.of([((0,), 1)]), Polynomial.of([((1,), -1)])
    return derive(lower, [one]) + lower * minus_x


def _gelu(x: Array, order: int) -> Array:
    """x Phi(x), Phi the normal distribution function; exact, not the tanh approximation."""
    # Beyond the limit the density is 0 and its polynomial factor still finite.
    limit = math.sqrt(2 * underflow(x.dtype))
    size = jnp.minimum(jnp.abs(x), limit)
    density = jnp.exp(-size * size / 2) / math.sqrt(2 * math.pi)
    if order >= 2:
        return horner(gelu_polynomial(order), (jnp.clip(x, -limit, limit),)) * density
    # At -|x|, where the distribution function is small and has no 1 - erf to lose digits to.
    below = jax.lax.erfc(size / math.sqrt(2)) / 2
    if order == 0:
        return jnp.maximum(x, 0) - size * below
    slope = below - size * density
    return jnp.where(x > 0, 1 - slope, slope)


@functools.cache
def mish_polynomial(order: int) -> Polynomial:
    """mish^(order) in x, t = tanh(softplus x), s = sigmoid x and v = t' = (1 - t^2) s.

    s' = s - s^2 and v' = v (1 - s - 2 t s).

    Example, mish' = t + x v, exponents in the order (x, v, t, s):
      >>> mish_polynomial(1)
      Polynomial(terms=(((0, 0, 1, 0), 1), ((1, 1, 0, 0), 1)))
    """
    if order == 0:
        return Polynomial.of([((1, 0, 1, 0), 1)])
    x_slope = Polynomial.of([((0, 0, 0, 0), 1)])
    v_slope = Polynomial.of([((0, 1, 0, 0), 1), ((0, 1, 0, 1), -1), ((0, 1, 1, 1), -2)])
    t_slope = Polynomial.of([((0, 1, 0, 0), 1)])
    s_slope = Polynomial.of([((0, 0, 0, 1), 1), ((0, 0, 0, 2), -1)])
    return derive(mish_polynomial(order - 1), [x_slope, v_slope, t_slope, s_slope])


def _mish(x: Array, order: int) -> Array:
    """x tanh(softplus(x)) (Misra, 2019)."""
    # e = exp(-|x|) cannot overflow; both signs of x have their own ratio, without cancellation.
    limit = underflow(x.dtype)
    e = jnp.exp(-jnp.minimum(jnp.abs(x), limit))
    right = x > 0
    denominator = jnp.where(right, 1 + 2 * e * (1 + e), 2 + e * (2 + e))
    t = jnp.where(right, 1 + 2 * e, e * (2 + e)) / denominator
    s = jnp.where(right, 1, e) / (1 + e)
    v = 4 * e * (1 + e) * jnp.where(right, e, 1) / denominator**2
    # Only x t itself grows, to the right.
    bounded = jnp.maximum(x, -limit) if order == 0 else jnp.clip(x, -limit, limit)
    return horner(mish_polynomial(order), (bounded, v, t, s))


def _softplus(x: Array, order: int) -> Array:
    """log(1 + exp(x)), which is RCT-AF with beta = 0 and alpha = 1."""
    return rct_af_derivative(x, 1.0, beta=0, order=order)


def _swish(x: Array, order: int) -> Array:
    """x sigmoid(x), which is RCT-AF with beta = 1 and alpha = 1 (Ramachandran et al., 2017)."""
    return rct_af_derivative(x, 1.0, beta=1, order=order)


def _sigmoid(x: Array, order: int) -> Array:
    """1 / (1 + exp(-x)), softplus' first derivative."""
    return rct_af_derivative(x, 1.0, beta=0, order=order + 1)


def _tanh(x: Array, order: int) -> Array:
    """tanh(x) = 2 sigmoid(2 x) - 1, whose derivatives are those of softplus."""
    return jnp.tanh(x) if order == 0 else 2.0 ** (order + 1) * _sigmoid(2 * x, order)


class Baseline(NamedTuple):
    """All that is known of a baseline: one row of `BASELINES`.

    Attributes:
      label: as people write it.
      evaluate: (x, n) to its n-th derivative.
      curvature: max |sigma''|, where it is, and what the paper gives.
    """

    label: str
    evaluate: Evaluator
    curvature: Curvature


_KINK = "infinite: sigma' jumps at 0"
_INFINITE = Curvature(math.inf, 0.0, _KINK, math.inf)

# Softplus, Swish and GELU have their maximum at 0 (GELU's other extrema are at +-2, where its
# third derivative (x^2 - 4) x phi(x) is 0). Sigmoid's third derivative s (1 - s) (1 - 6 s + 6 s^2)
# is 0 at |x| = log(2 + sqrt 3), tanh's at half of it. Table 1 gives 0.362 for Mish, whose |sigma''|
# is 16/25 = 0.64 at 0 already. SELU's first derivative jumps at 0 from 1.758 to 1.051, so its
# curvature is infinite, although sigma'' stays below 1.758 on either side.
BASELINES = {
    "identity": Baseline("Identity", _identity, Curvature(0.0, 0.0)),
    "relu": Baseline("ReLU", _relu, _INFINITE),
    "leaky_relu": Baseline("Leaky ReLU", _leaky_relu, _INFINITE),
    "elu": Baseline(
        "ELU", _elu, Curvature(1.0, 0.0, "supremum; sigma'' jumps from 1 to 0 at 0", 1.0)
    ),
    "selu": Baseline("SELU", _selu, Curvature(math.inf, 0.0, _KINK)),
    "gelu": Baseline("GELU", _gelu, Curvature(2 / math.sqrt(2 * math.pi), 0.0, "", 0.798)),
    "softplus": Baseline("Softplus", _softplus, Curvature(0.25, 0.0)),
    "swish": Baseline("Swish", _swish, Curvature(0.5, 0.0, "", 0.5)),
    "mish": Baseline("Mish", _mish, Curvature(0.6442046372369724, -0.08793443131491421, "", 0.362)),
    "sigmoid": Baseline(
        "Sigmoid", _sigmoid, Curvature(1 / (6 * math.sqrt(3)), math.log(2 + math.sqrt(3)))
    ),
    "tanh": Baseline(
        "Tanh", _tanh, Curvature(4 / (3 * math.sqrt(3)), math.log(2 + math.sqrt(3)) / 2)
    ),
}
SYNONYMS = {"silu": "swish"}
"""Other names in use, and the key of `BASELINES` that they stand for."""


def baseline_derivative(name: str, x: Float[Array, "*x"], order: int) -> Float[Array, "*x"]:
    """n-th derivative of the baseline `name`, elementwise, in closed form.

    Args:
      name: a key of `BASELINES`.
      x: inputs; 16-bit floats are computed in float32.
      order: number of derivatives, an int >= 0; 0 is the function itself.

    Raises:
      InputError: order is not an int >= 0, or x is complex.

    Example:
      >>> float(baseline_derivative("swish", jnp.array(0.0), 2))
      0.5
    """
    check_index("order", order)
    return _curve(BASELINES[name].evaluate, order)(as_float(x))
