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

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
    return x if order == 0 else jnp.full_like(x, order == 1)


def _relu(x: Array, order: int) -> Array:
    # max, because 0 * (-inf) would be NaN.
    return jnp.maximum(x, 0) if order == 0 else _linear_sides(x, x > 0, 0.0, order)


def _leaky_relu(x: Array, order: int) -> Array:
    return _linear_sides(x, x >= 0, LEAKY_SLOPE, order)


def _exponential_side(scale: float, alpha: float, x: Array, order: int) -> Array:
    left = jnp.minimum(x, 0)
    left = scale * alpha * (jnp.exp(left) if order else jnp.expm1(left))
    right = scale * x if order == 0 else scale * (order == 1)
    return jnp.where(x > 0, right, left)


def _elu(x: Array, order: int) -> Array:
    return _exponential_side(1.0, 1.0, x, order)


def _selu(x: Array, order: int) -> Array:
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
    return rct_af_derivative(x, 1.0, beta=0, order=order)


def _swish(x: Array, order: int) -> Array:
    return rct_af_derivative(x, 1.0, beta=1, order=order)


EVALUATORS: dict[str, Evaluator] = {
    "identity": _identity,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": _selu,
    "gelu": _gelu,
    "softplus": _softplus,
    "swish": _swish,
    "mish": _mish,
}


def baseline_derivative(name: str, x: Float[Array, "*x"], order: int) -> Float[Array, "*x"]:
    """n-th derivative of the baseline `name`, elementwise, in closed form.

    Args:
        name: a key of `EVALUATORS`.
        x: inputs; 16-bit floats are computed in float32.
        order: number of derivatives, an int >= 0; 0 is the function itself.

    Raises:
        InputError: order is not an int >= 0, or x is complex.

    Example:
        >>> float(baseline_derivative("swish", jnp.array(0.0), 2))
        0.5
    """
    check_index("order", order)
    return _curve(EVALUATORS[name], order)(as_float(x))


def identity(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """x itself.

    Example:
        >>> float(identity(jnp.array(2.0)))
        2.0
    """
    return baseline_derivative("identity", x, 0)


def relu(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """max(x, 0) (Nair and Hinton, 2010); relu'(0) = 0.

    Example:
        >>> float(relu(jnp.array(-2.0)))
        0.0
    """
    return baseline_derivative("relu", x, 0)


def leaky_relu(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """x for x >= 0, else 0.01 x, the slope of Table 1 (Maas et al., 2013).

    Example:
        >>> round(float(leaky_relu(jnp.array(-2.0))), 4)
        -0.02
    """
    return baseline_derivative("leaky_relu", x, 0)


def elu(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """x for x > 0, else exp(x) - 1 (Clevert et al., 2016).

    Example:
        >>> round(float(elu(jnp.array(-1.0))), 4)
        -0.6321
    """
    return baseline_derivative("elu", x, 0)


def selu(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """1.0507 x for x > 0, else 1.7581 (exp(x) - 1) (Klambauer et al., 2017).

    Example:
        >>> round(float(selu(jnp.array(-1.0))), 4)
        -1.1113
    """
    return baseline_derivative("selu", x, 0)


def gelu(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """x Phi(x), Phi the normal distribution function; exact, not the tanh approximation.

    Example:
        >>> round(float(gelu(jnp.array(1.0))), 4)
        0.8413
    """
    return baseline_derivative("gelu", x, 0)


def softplus(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """log(1 + exp(x)), which is `rct_af` with beta = 0 and alpha = 1.

    Example:
        >>> round(float(softplus(jnp.array(0.0))), 4)
        0.6931
    """
    return baseline_derivative("softplus", x, 0)


def swish(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """x sigmoid(x), which is `rct_af` with beta = 1 and alpha = 1 (Ramachandran et al., 2017).

    Example:
        >>> round(float(swish(jnp.array(1.0))), 4)
        0.7311
    """
    return baseline_derivative("swish", x, 0)


def mish(x: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """x tanh(softplus(x)) (Misra, 2019).

    Example:
        >>> round(float(mish(jnp.array(1.0))), 4)
        0.8651
    """
    return baseline_derivative("mish", x, 0)
