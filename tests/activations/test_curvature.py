"""Curvature: the known values, dense grids, 50-digit extrema, and the inverse."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.activations.baselines import BASELINES, baseline_derivative
from rctaf_jax.activations.curvature import (
    Curvature,
    alpha_for_curvature,
    check_positive_array,
    curvature_extrema,
    family_curvature,
    max_curvature,
)
from rctaf_jax.activations.family import rct_af_derivative
from rctaf_jax.errors import InputError

# Table 1 of the paper.
TABLE_1 = {
    "relu": math.inf,
    "leaky_relu": math.inf,
    "elu": 1.0,
    "gelu": 0.798,
    "swish": 0.5,
    "mish": 0.362,
}


@pytest.mark.parametrize("beta", range(8))
def test_family_against_a_dense_grid(beta):
    with jax.enable_x64(True):
        u = np.linspace(-60, 60, 240_001)
        values = np.asarray(rct_af_derivative(u, 1.0, beta=beta, order=2))
    best = np.argmax(np.abs(values))
    found = family_curvature(beta, 1.0)
    np.testing.assert_allclose(found.value, np.abs(values[best]), rtol=1e-6)
    assert abs(found.location - abs(u[best])) < 1e-3
    signs = np.sign(np.diff(values[np.abs(u) < 30]))
    num_extrema = np.count_nonzero(np.diff(signs[signs != 0]))
    assert num_extrema == len(curvature_extrema(beta)) == 2 * beta + 1


def test_the_constant_is_a_power_of_two_until_four_and_larger_from_five_on():
    for beta in range(5):
        assert max_curvature(1.0, beta=beta) == 2.0 ** (beta - 2)
        assert family_curvature(beta, 3.0).location == 0
    for beta in range(5, 21):
        assert max_curvature(1.0, beta=beta) > 2.0 ** (beta - 2)
    peak = family_curvature(5, 1.0)
    assert (round(peak.value, 3), round(peak.location, 2)) == (10.357, 1.96)


@pytest.mark.parametrize("beta", range(21))
def test_extrema_are_symmetric_and_alternate(beta):
    u, values = np.array(curvature_extrema(beta)).T
    np.testing.assert_array_equal(u, -u[::-1])
    np.testing.assert_array_equal(values, values[::-1])
    assert values[len(u) // 2] == 2.0 ** (beta - 2)
    turns = np.sign(np.diff(values))
    assert np.all(turns[1:] == -turns[:-1])
    # The paper's 2 beta + 1 fails from 11 on.
    surplus = 0 if beta <= 10 else 4 if beta <= 19 else 8
    assert len(u) == 2 * beta + 1 + surplus


@pytest.mark.parametrize("beta", [5, 10, 11])
def test_number_of_extrema_with_fifty_digits(beta):
    """Sign changes of g''' at u > 0, on a grid finer than a third of the smallest distance."""
    grid = np.arange(0.02, 3 * beta + 6, 0.05)
    with mp.workdps(50):
        values = [_third_derivative(beta, mp.mpf(float(u))) for u in grid]
    changes = sum((a > 0) != (b > 0) for a, b in itertools.pairwise(values))
    assert 2 * changes + 1 == len(curvature_extrema(beta))


def _third_derivative(beta, u):
    """By Taylor coefficients of softplus and the recursion (.)' u on them."""
    num = beta + 3
    sigmoid = [1 / (1 + mp.exp(-u))]
    for k in range(num):
        square = mp.fdot(sigmoid, sigmoid[::-1])
        sigmoid.append((sigmoid[k] - square) / (k + 1))
    coefficients = [mp.log1p(mp.exp(u))] + [c / (k + 1) for k, c in enumerate(sigmoid[:num])]
    for _ in range(beta):
        slope = [(k + 1) * c for k, c in enumerate(coefficients[1:])]
        coefficients = [u * d + (slope[k - 1] if k else 0) for k, d in enumerate(slope)]
    return 6 * coefficients[3]


@pytest.mark.parametrize("beta", [0, 1, 2, 5])
def test_alpha_and_curvature_are_inverses(beta):
    for curvature in (0.25, 4, 7.0, 10.0, 123.4):
        alpha = alpha_for_curvature(curvature, beta=beta)
        assert isinstance(alpha, float)
        np.testing.assert_allclose(max_curvature(alpha, beta=beta), curvature, rtol=1e-15)
    values = jnp.array([0.5, 7.0])
    traced = jax.jit(functools.partial(alpha_for_curvature, beta=beta))(values)
    np.testing.assert_allclose(traced, alpha_for_curvature(values, beta=beta), rtol=1e-6)
    np.testing.assert_allclose(max_curvature(traced, beta=beta), values, rtol=1e-6)
    rate = jax.grad(lambda c: alpha_for_curvature(c, beta=beta))(7.0)
    np.testing.assert_allclose(rate, 1 / max_curvature(1.0, beta=beta), rtol=1e-6)


def test_the_papers_alphas():
    """max |sigma''| = alpha / 4, alpha / 2, alpha (below (2), (4) and (6))."""
    assert [alpha_for_curvature(7.0, beta=b) for b in range(3)] == [28.0, 14.0, 7.0]


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf, np.array([1.0, 0.0]), "x", None])
def test_wrong_values(wrong):
    with pytest.raises(InputError, match="alpha is"):
        max_curvature(wrong, beta=1)
    with pytest.raises(InputError, match="curvature is"):
        alpha_for_curvature(wrong, beta=1)
    check_positive_array("alpha", jnp.array([1.0], jnp.bfloat16))


@pytest.mark.parametrize("beta", [-1, 1.0, True, 21])
def test_wrong_beta(beta):
    with pytest.raises(InputError, match="beta is"):
        curvature_extrema(beta)
    with pytest.raises(InputError, match="beta is"):
        max_curvature(1.0, beta=beta)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_against_a_dense_grid(name):
    """The differences of sigma' stay below value * step, and come close to it."""
    found = BASELINES[name].curvature
    assert found.paper_value == TABLE_1.get(name)
    step = 1e-4
    with jax.enable_x64(True):
        x = np.arange(-100_000, 100_001) * step
        steepest = np.max(np.abs(np.diff(np.asarray(baseline_derivative(name, x, 1))))) / step
    if math.isinf(found.value):
        # sigma' jumps, by no less than SELU's 0.7.
        assert steepest > 0.7 / step
        assert found.location == 0
    else:
        np.testing.assert_allclose(found.value, steepest, rtol=1e-4)
        at_location = baseline_derivative(name, found.location, 2)
        np.testing.assert_allclose(np.abs(at_location), found.value, rtol=1e-6)


def _mish(x):
    return x * mp.tanh(mp.log1p(mp.exp(x)))


def test_mish_differs_from_the_table_and_elu_is_a_supremum():
    mish = BASELINES["mish"].curvature
    assert (round(mish.value, 4), round(mish.location, 3)) == (0.6442, -0.088)
    np.testing.assert_allclose(baseline_derivative("mish", 0.0, 2), 0.64, rtol=1e-6)
    with mp.workdps(40):
        location = mp.findroot(lambda x: mp.diff(_mish, x, 3), -0.088)
        value = float(mp.diff(_mish, location, 2))
    np.testing.assert_allclose([mish.location, mish.value], [float(location), value], rtol=1e-15)
    assert mish.paper_value == 0.362
    assert "supremum" in BASELINES["elu"].curvature.note
    assert "jumps" in BASELINES["selu"].curvature.note


def test_curvature_of_an_activation_inside_a_compiled_function():
    activation: Activation = parse_activation("rct-af:beta=5,curvature=7")

    @jax.jit
    def scaled(x):
        return x * activation.max_curvature * parse_activation("mish").max_curvature

    np.testing.assert_allclose(scaled(1.0), 7 * BASELINES["mish"].curvature.value, rtol=1e-6)
    expected = Curvature(7.0, activation.curvature.location)
    assert activation.curvature == expected._replace(value=activation.max_curvature)
