"""RCT-AF, the recursive curvature-tunable activation family, and its derivatives of any order.

    sigma_beta(x; alpha) = g_beta(alpha x) / alpha,   g_0 = softplus,   g_{beta+1}(u) = u g_beta'(u)

(equations (1), (3), (5)). One family of functions is closed under everything autodiff asks for:

    f(x, alpha) = alpha^m E(alpha x):   df/dx     = alpha^{m+1} E'(u)
                                        df/dalpha = alpha^{m-1} (m E(u) + u E'(u))

with E an integer polynomial of `rctaf_jax.polynomial`. So each function's JVP rule names two others
of the same kind, and every derivative, mixed ones too, is evaluated from its own closed form; no
rule is ever differentiated as code.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, ArrayLike, Float

from rctaf_jax.errors import InputError

from .curvature import check_positive_array
from .polynomial import (
    Polynomial,
    SplitPolynomial,
    check_index,
    differentiate,
    euler,
    horner,
    largest_value,
    rct_polynomial,
    split,
)

Elementwise = Callable[[Array, Array], Array]


def rct_af(x: Float[ArrayLike, "*x"], alpha: Float[ArrayLike, "*a"], *, beta: int) -> Array:
    """RCT-AF activation, elementwise.

    sigma_beta(x; alpha) = g_beta(alpha x) / alpha, with sigma_0 = log(1 + exp(alpha x)) / alpha and
    sigma_{beta+1} = x sigma_beta'. For alpha -> inf every member tends to relu(x).

    Args:
      x: inputs; integers become floats. bfloat16 and float16 are computed in float32.
      alpha: sharpness > 0, broadcast against x. It may be traced: one compiled program serves all
          values, and it may be differentiated. A traced alpha <= 0 cannot be refused, and gives
          values without meaning.
      beta: number of recursions, a Python int >= 0 (static). The terms cancel more and more:
          relative to the largest value, float32 errors are 5e-7 up to beta = 3, 4e-6 at 6 and
          2e-4 at 10; float32 refuses beta from about 13 on.

    Returns:
      Array of the broadcast shape and of x's floating type. Finite for finite x; the limits are
      0 at -inf and inf at +inf; NaN for NaN.

    Raises:
      InputError: beta is not an int >= 0, a concrete alpha is not positive and finite, x is
          complex, or beta so large that the terms overflow x's type.

    Source: equations (1), (3) and (5).

    Example:
      >>> rct_af(jnp.array([-1.0, 0.0, 1.0]), 4.0, beta=0).round(4).tolist()
      [0.0044999998062849045, 0.17329999804496765, 1.0045000314712524]
    """
    return rct_af_derivative(x, alpha, beta=beta, order=0)


def rct_af_derivative(
    x: Float[ArrayLike, "*x"], alpha: Float[ArrayLike, "*a"], *, beta: int, order: int
) -> Array:
    """Derivative of `rct_af` in x, of any order, from its closed form.

    d^n sigma_beta / dx^n = alpha^{n-1} g_beta^(n)(alpha x); order 0 is `rct_af` itself. It costs
    one exponential (two from the third order on, for odd orders) and a polynomial.

    Args:
      x, alpha, beta: as for `rct_af`.
      order: number of derivatives, a Python int >= 0 (static).

    Returns:
      Array of the broadcast shape and of x's floating type. float16 overflows to inf where the
      derivative itself exceeds 65504, which alpha = 400 reaches at the third order.

    Raises:
      InputError: as for `rct_af`, or order is not an int >= 0.

    Source: equations (2), (4) and (6) for order 2.

    Example, the largest second derivative of beta = 1 is alpha / 2:
      >>> float(rct_af_derivative(0.0, 14.0, beta=1, order=2))
      7.0
    """
    check_index("beta", beta)
    check_index("order", order)
    x = as_float(x)
    return _curve(rct_polynomial(beta, order), order - 1)(x, _as_alpha(alpha, x))


def as_float(x: Any) -> Array:
    """x as an array of a real floating type; integers and booleans take JAX's default float.

    Example:
      >>> as_float(1).dtype.name
      'float32'
    """
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise InputError(f"x has type {x.dtype}; activations take real numbers.")
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def compute_dtype(x: Array) -> Any:
    """The type to compute in: float32 for 16-bit floats and below, else x's own.

    Example:
      >>> compute_dtype(jnp.zeros((), jnp.bfloat16)).name
      'float32'
    """
    return x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype(jnp.float32)


def _as_alpha(alpha: Any, x: Array) -> Array:
    check_positive_array("alpha", alpha)
    return jnp.asarray(alpha).astype(compute_dtype(x))


@functools.cache
def _curve(expression: Polynomial, power: int) -> Elementwise:
    """alpha^power E(alpha x) with the closed-form JVP rule of the module's docstring."""

    @jax.custom_jvp
    def curve(x: Array, alpha: Array) -> Array:
        return _evaluate(expression, power, x, alpha).astype(x.dtype)

    def rule(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
        x, alpha = primals
        x_dot, alpha_dot = tangents
        out = curve(x, alpha)
        terms = []
        # Symbolic zeros: training without a learnable alpha keeps one residual, sigma'(x), only.
        if not isinstance(x_dot, SymbolicZero):
            terms.append(_curve(differentiate(expression), power + 1)(x, alpha) * x_dot)
        if not isinstance(alpha_dot, SymbolicZero):
            slope = _curve(expression.scaled(power) + euler(expression), power - 1)
            # In alpha's type, because its gradient is a sum over all of x.
            terms.append((slope(x.astype(alpha.dtype), alpha) * alpha_dot).astype(x.dtype))
        return out, functools.reduce(jnp.add, terms) if terms else jnp.zeros_like(out)

    curve.defjvp(rule, symbolic_zeros=True)
    return curve


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def _evaluate(expression: Polynomial, power: int, x: Array, alpha: Array) -> Array:
    """alpha^power E(alpha x) in alpha's type: evaluated at -|u|, then reflected."""
    parts = split(expression)
    x = x.astype(alpha.dtype)
    u = alpha * x
    value = _at_minus(parts, jnp.abs(u))
    if parts.is_odd:
        return jnp.where(u > 0, parts.sigmoid - value, value) * alpha**power
    value *= alpha**power
    # Only sigma itself grows, like max(u, 0) / alpha = max(x, 0), which cannot overflow.
    is_growing = parts.softplus + parts.sigmoid_u > 0
    return jnp.maximum(x, 0) + value if is_growing else value


def _at_minus(parts: SplitPolynomial, size: Array) -> Array:
    """E(-size), where every term decays with exp(-size)."""
    limit = underflow(size.dtype)
    if largest_value(parts.decaying, limit) > float(jnp.finfo(size.dtype).max):
        raise InputError(
            f"the terms of this beta and order overflow {size.dtype}; lower them or use float64."
        )
    # Beyond the limit exp(-size) is 0; size^k stays finite, so that their product is 0, not NaN.
    size = jnp.minimum(size, limit)
    exponential = jnp.exp(-size)
    inverse = 1 / (1 + exponential)
    sigmoid = exponential * inverse
    q = sigmoid * inverse
    # An odd function that vanishes at 0 needs r = tanh(size / 2) to relative accuracy there.
    is_zero_at_zero = parts.is_odd and not parts.sigmoid
    r = (-jnp.expm1(-size) if is_zero_at_zero else 1 - exponential) * inverse
    terms = []
    if parts.softplus:
        terms.append(parts.softplus * jnp.log1p(exponential))
    if parts.sigmoid:
        terms.append(parts.sigmoid * sigmoid)
    if parts.sigmoid_u:
        terms.append(-parts.sigmoid_u * size * sigmoid)
    if parts.decaying.terms:
        terms.append(q * horner(parts.decaying, (r, -size, q)))
    return functools.reduce(jnp.add, terms)


def underflow(dtype: Any) -> int:
    """A whole number whose negative exponential is exactly 0 in `dtype`.

    Example:
      >>> float(jnp.exp(-jnp.float32(underflow(jnp.float32))))
      0.0
    """
    return 750 if jnp.finfo(dtype).bits == 64 else 106
