"""The baselines against jax.nn, 40-digit arithmetic and their own conventions at kinks."""

import functools
import itertools

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from rctaf_jax.activations import activation_label, parse_activation
from rctaf_jax.activations.baselines import (
    BASELINES,
    LEAKY_SLOPE,
    SELU_ALPHA,
    SELU_SCALE,
    Baseline,
    baseline_derivative,
    gelu_polynomial,
    mish_polynomial,
)
from rctaf_jax.activations.curvature import Curvature
from rctaf_jax.activations.polynomial import Polynomial
from rctaf_jax.errors import InputError

REFERENCE = {
    "identity": lambda x: x,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "softplus": jax.nn.softplus,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}


def softplus(x):
    return max(x, 0) + mp.log1p(mp.exp(-abs(x)))


SMOOTH = {
    "gelu": lambda x: x * mp.ncdf(x),
    "softplus": softplus,
    "swish": lambda x: x / (1 + mp.exp(-x)),
    "mish": lambda x: x * mp.tanh(softplus(x)),
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "tanh": mp.tanh,
}


# Every point is exact in both types.
GRID = np.concatenate([np.linspace(-12, 12, 97), [-1e4, -300, -30, 30, 300, 1e4]])


@functools.cache
def taylor_series(name):
    with mp.workdps(40):
        return [mp.taylor(SMOOTH[name], mp.mpf(float(v)), 4) for v in GRID]


@pytest.mark.parametrize("name", BASELINES)
def test_value_and_slope_are_those_of_jax(name):
    """Kinks included: x holds 0 and -0."""
    x = jnp.array([-30.0, -3.0, -0.5, -0.0, 0.0, 0.5, 2.0, 30.0])
    function = parse_activation(name)
    np.testing.assert_allclose(function(x), REFERENCE[name](x), rtol=2e-6, atol=1e-12)
    ours, theirs = (jax.jit(jax.vmap(jax.grad(f)))(x) for f in (function, REFERENCE[name]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize(("dtype", "eps"), [(np.float32, 2**-23), (np.float64, 2**-52)])
def test_smooth_ones_against_forty_digits(name, dtype, eps):
    """Orders 0 to 4. Rounding is relative to the value and to 1 near the origin, where the terms of
    the formulas are of size 1 and cancel at roots; in the tails it is relative, with a factor
    1 + |x|^2 for the argument of the exponential."""
    x, series = GRID.astype(dtype), taylor_series(name)
    with jax.enable_x64(dtype is np.float64):
        for order in range(5):
            exact = np.array([float(s[order] * mp.factorial(order)) for s in series])
            value = np.asarray(baseline_derivative(name, x, order))
            assert value.dtype == dtype
            terms = np.where(np.abs(x) < 6, np.minimum(1, 30 * np.exp(-np.abs(x))), 0)
            tolerance = 4 * eps * ((1 + np.minimum(x * x, 100)) * np.abs(exact) + terms)
            assert np.all(np.abs(value - exact) <= tolerance + eps * 1e-9), order


def test_exponential_sides_by_hand():
    x = jnp.array([-1.0, 0.0, 1.0])
    e = float(np.exp(-1))
    np.testing.assert_allclose(baseline_derivative("elu", x, 0), [e - 1, 0, 1], rtol=1e-6)
    for order, right in ((1, 1.0), (2, 0.0), (5, 0.0)):
        expected = [e, 1.0, right]
        np.testing.assert_allclose(baseline_derivative("elu", x, order), expected, rtol=1e-6)
        left = SELU_SCALE * SELU_ALPHA
        expected = [left * e, left, SELU_SCALE * right]
        np.testing.assert_allclose(baseline_derivative("selu", x, order), expected, rtol=1e-6)


def test_conventions_at_the_kinks():
    zeros = jnp.array([-0.0, 0.0])
    assert baseline_derivative("relu", zeros, 1).tolist() == [0.0, 0.0]
    assert baseline_derivative("leaky_relu", zeros, 1).tolist() == [1.0, 1.0]
    assert baseline_derivative("elu", zeros, 2).tolist() == [1.0, 1.0]
    for name, order in itertools.product(("identity", "relu", "leaky_relu"), (2, 3)):
        assert not np.any(baseline_derivative(name, jnp.linspace(-1, 1, 5), order))
    np.testing.assert_allclose(baseline_derivative("leaky_relu", -1.0, 1), LEAKY_SLOPE)


def test_polynomials_by_hand():
    # gelu''' = (x^3 - 4 x) phi
    assert gelu_polynomial(3) == Polynomial.of([((1,), -4), ((3,), 1)])
    # mish'' = 2 v + x v (1 - s - 2 t s)
    expected = [((0, 1, 0, 0), 2), ((1, 1, 0, 0), 1), ((1, 1, 0, 1), -1), ((1, 1, 1, 1), -2)]
    assert mish_polynomial(2) == Polynomial.of(expected)


def test_silu_is_swish():
    assert parse_activation("SiLU") == parse_activation("swish")


@pytest.mark.parametrize("order", [-1, 1.0, True])
def test_wrong_order(order):
    with pytest.raises(InputError, match=r"order is .* int >= 0"):
        baseline_derivative("gelu", 1.0, order)


def test_a_row_is_all_that_an_activation_takes(monkeypatch):
    def half_square(x, order):
        return (x * x / 2, x, jnp.ones_like(x))[order] if order < 3 else jnp.zeros_like(x)

    row = Baseline("Half square", half_square, Curvature(1.0, 0.0))
    monkeypatch.setitem(BASELINES, "half_square", row)
    activation = parse_activation("Half-Square")
    assert activation.text == "half_square"
    assert activation_label(activation.name) == "Half square"
    assert activation.curvature == Curvature(1.0, 0.0)
    assert float(activation(3.0)) == 4.5
    assert float(jax.grad(activation)(3.0)) == float(activation.derivative(3.0, 1)) == 3.0
