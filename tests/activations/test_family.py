"""RCT-AF against 50-digit Taylor arithmetic, nested autodiff, and its limits."""

import functools
import itertools

import jax
import jax.monitoring
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from rctaf_jax.activations.family import (
    as_float,
    compute_dtype,
    rct_af,
    rct_af_derivative,
    underflow,
)
from rctaf_jax.activations.polynomial import Polynomial, horner, rct_polynomial
from rctaf_jax.errors import InputError

BETAS = range(7)
ORDERS = range(5)
ALPHAS = (0.1, 1.0, 7.0, 28.0, 400.0)


def slope(function, argument=0):
    """Elementwise derivative in one argument, by forward mode."""

    def differentiated(*arguments):
        def along(value):
            return function(*arguments[:argument], value, *arguments[argument + 1 :])

        point = arguments[argument]
        return jax.jvp(along, (point,), (jnp.ones_like(point),))[1]

    return differentiated


def plain(x, alpha, beta):
    """The recursion itself, by nested autodiff: no shared code with the closed forms."""
    g = jax.nn.softplus
    for _ in range(beta):
        g = functools.partial(lambda inner, u: u * slope(inner)(u), g)
    return g(alpha * x) / alpha


def exact_values(u, num_betas, num_orders):
    """g_beta^(order)(u) with 50 digits, by Taylor coefficients.

    s' = s - s^2 gives the coefficients of sigmoid one after the other, integration those of
    softplus, and (.)' u acts on coefficients as c_k -> u (k + 1) c_{k+1} + k c_k.
    """
    num = num_betas + num_orders
    sigmoid = [1 / (1 + mp.exp(-u))]
    for k in range(num):
        square = sum(sigmoid[i] * sigmoid[k - i] for i in range(k + 1))
        sigmoid.append((sigmoid[k] - square) / (k + 1))
    coefficients = [max(u, 0) + mp.log1p(mp.exp(-abs(u)))]
    coefficients += [c / (k + 1) for k, c in enumerate(sigmoid[:num])]
    values = np.zeros((num_betas, num_orders), dtype=object)
    for beta in range(num_betas):
        for order in range(num_orders):
            values[beta, order] = coefficients[order] * mp.factorial(order)
        slope = [(k + 1) * c for k, c in enumerate(coefficients[1:])]
        coefficients = [u * d + (slope[k - 1] if k else 0) for k, d in enumerate(slope)]
    return values


@functools.cache
def oracle(dtype, alpha):
    """Points x and d^n sigma_beta / dx^n there, for the rounded alpha and x exactly.

    The points are dense in |u| <= 40, where all roots lie, and logarithmic up to |x| = 1e4.
    """
    far = np.geomspace(1e-6, 1e4, 16)
    x = np.concatenate([np.linspace(-40, 40, 401) / alpha, far, -far]).astype(dtype)
    sharpness = mp.mpf(float(dtype(alpha)))
    rows = []
    with mp.workdps(50):
        for point in x:
            table = exact_values(sharpness * mp.mpf(float(point)), len(BETAS), len(ORDERS) + 1)
            scale = [sharpness ** (n - 1) for n in range(len(ORDERS) + 1)]
            rows.append((table * np.array(scale)).astype(np.float64))
    return x, np.stack(rows)


@jax.jit
def closed_forms(x, alpha):
    """Every order of every beta, in one compilation: [beta * order, x]."""
    pairs = itertools.product(BETAS, ORDERS)
    return jnp.stack([rct_af_derivative(x, alpha, beta=b, order=n) for b, n in pairs])


def term_size(beta, order, alpha, x):
    """Sum of the absolute terms of the polynomial that is evaluated, in units of the result."""
    with_signs = rct_polynomial(beta, order)
    polynomial = Polynomial(tuple((m, abs(c)) for m, c in with_signs.terms))
    u = np.minimum(np.abs(alpha * x.astype(np.float64)), 700.0)
    s = np.exp(-u) / (1 + np.exp(-u))
    values = (np.log1p(np.exp(-u)), s, u, 1 - 2 * s, s * (1 - s))
    return horner(polynomial, values) * alpha ** (order - 1)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_every_order_against_fifty_digits(optimised, dtype, rtol, alpha):
    """Relative error at most rtol, and near roots the error that rounding alone causes.

    A value near a root of its function cannot be had to a small relative error: rounding
    u = alpha x moves it by eps |x f'|, and rounding the terms of the polynomial by eps times their
    absolute sum. Where these dwarf the value (30 times), only the absolute bound is asked for.
    """
    x, exact = oracle(dtype, alpha)
    eps = float(np.finfo(dtype).eps)
    is_within_rtol = []
    with jax.enable_x64(dtype is np.float64), optimised():
        values = np.asarray(closed_forms(x, alpha))
        assert values.dtype == dtype
        for value, (beta, order) in zip(values, itertools.product(BETAS, ORDERS), strict=True):
            reference, slope = exact[:, beta, order], exact[:, beta, order + 1]
            size, error = np.abs(reference), np.abs(value - reference)
            rounding = np.abs(x * slope) + term_size(beta, order, alpha, x) + size
            assert np.all(error <= 2 * eps * (rounding + 1e-6))
            is_visible = size > 1e-6
            is_conditioned = is_visible & (rounding < 30 * size)
            assert np.all(error[is_conditioned] <= rtol * size[is_conditioned])
            if beta <= 2:
                is_within_rtol.extend(error[is_visible] <= rtol * size[is_visible])
    # For the paper's three functions hardly any point is that close to a root.
    assert np.mean(is_within_rtol) > 0.998


@pytest.mark.parametrize("beta", [0, 1, 3])
def test_mixed_derivatives_against_nested_autodiff(beta):
    """Mixed derivatives in x and alpha up to third order, in float64."""
    with jax.enable_x64(True):
        x, alpha = jnp.linspace(-6, 6, 25), jnp.array(1.7)
        for arguments in ((1,), (0, 1), (1, 0), (1, 1), (1, 1, 0), (0, 1, 1)):
            ours = functools.partial(rct_af, beta=beta)
            theirs = functools.partial(plain, beta=beta)
            for argument in arguments:
                ours, theirs = jax.grad(ours, argument), slope(theirs, argument)
            value = jax.jit(jax.vmap(ours, (0, None)))(x, alpha)
            expected = jax.jit(theirs)(x, alpha)
            np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("beta", [0, 1, 2, 3])
def test_gradient_in_alpha_has_its_own_closed_form(beta):
    """d sigma / d alpha = (u g' - g) / alpha^2 = (sigma_{beta+1} - sigma_beta) / alpha."""
    x, alpha = jnp.linspace(-3, 3, 41), 4.0
    in_alpha = jax.jit(jax.vmap(jax.grad(lambda x, a: rct_af(x, a, beta=beta), 1), (0, None)))
    difference = (rct_af(x, alpha, beta=beta + 1) - rct_af(x, alpha, beta=beta)) / alpha
    np.testing.assert_allclose(in_alpha(x, alpha), difference, rtol=2e-5, atol=1e-6)
    # It is even in x; in its tail, that difference would leave nothing but rounding.
    tail = in_alpha(jnp.array([-10.0, 10.0]), alpha)
    u = 40.0
    # g_{beta+1} - g_beta at -u in the tail: Stirling numbers of the second kind, times exp(-u).
    leading = {0: -(u + 1), 1: u**2, 2: 2 * u**2 - u**3, 3: 4 * u**2 - 5 * u**3 + u**4}
    np.testing.assert_allclose(tail, leading[beta] * np.exp(-u) / alpha**2, rtol=1e-5)
    assert in_alpha(jnp.array([-jnp.inf, jnp.inf]), alpha).tolist() == [0.0, 0.0]


def test_gradient_in_alpha_sums_in_float32_over_a_bfloat16_batch():
    """The sum over the batch is not taken in bfloat16, which stops growing at 256."""
    x = jnp.full((4096,), 0.25, jnp.bfloat16)
    total = jax.grad(lambda a: rct_af(x, a, beta=1).astype(jnp.float32).sum())(jnp.array(2.0))
    single = jax.grad(lambda a: rct_af(0.25, a, beta=1))(jnp.array(2.0))
    assert total.dtype == jnp.float32
    np.testing.assert_allclose(total, 4096 * single, rtol=1e-5)


def test_forward_and_reverse_modes_agree_with_finite_differences():
    with jax.enable_x64(True):
        function = jax.jit(functools.partial(rct_af, beta=2))
        check_grads(function, (jnp.linspace(-2, 2, 9), jnp.array(3.0)), order=1, rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.1, 400.0])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_finite_for_every_finite_input_and_right_at_infinity(dtype, alpha):
    with jax.enable_x64(dtype == "float64"):
        big = float(jnp.finfo(dtype).max)
        finite = np.concatenate([[0.0], np.geomspace(1e-7, big / 2, 120), [big]])
        ends = [-np.inf, np.inf, np.nan]
        x = jnp.asarray(np.concatenate([-finite, finite, ends]), dtype)
        limits = {0: (0.0, np.inf), 1: (0.0, 1.0), 2: (0.0, 0.0), 3: (0.0, 0.0)}
        for beta, (order, expected) in itertools.product((0, 1, 5), limits.items()):
            values = rct_af_derivative(x, alpha, beta=beta, order=order)
            # The third derivative itself exceeds float16 at alpha = 400.
            if dtype != "float16" or order < 3:
                assert jnp.all(jnp.isfinite(values[:-3])), (beta, order)
            low, high, nan = np.asarray(values[-3:], np.float64)
            assert (low, high) == expected
            assert np.isnan(nan)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("beta", [0, 1, 5])
def test_identity_far_out_where_alpha_x_overflows(beta, dtype):
    """alpha x is inf there, but sigma is x, and its gradient 1; on the left both are 0."""
    big = jnp.finfo(dtype).max
    ends = jnp.array([big, -big, jnp.inf, -jnp.inf], dtype)
    values, pullback = jax.vjp(lambda x: rct_af(x, 400.0, beta=beta), ends)
    assert values.tolist() == [float(big), 0.0, np.inf, 0.0]
    assert pullback(jnp.ones_like(ends))[0].tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("beta", [0, 1, 2, 3])
def test_tails_are_reflections(beta):
    """g(-u) = g(u) - u, g'(-u) = 1 - g'(u), and higher orders have their parity."""
    x = jnp.linspace(0.01, 9, 57)
    low, high = (
        [rct_af_derivative(s * x, 2.0, beta=beta, order=n) for n in range(5)] for s in (-1, 1)
    )
    np.testing.assert_allclose(low[0], high[0] - x, atol=2e-6)
    np.testing.assert_allclose(low[1], 1 - high[1], atol=2e-7)
    for order in (2, 3, 4):
        np.testing.assert_array_equal(low[order], (-1) ** order * high[order])


def test_one_residual_of_the_size_of_x_is_kept_for_the_backward_pass():
    x = jnp.linspace(-1, 1, 64, dtype=jnp.bfloat16)
    for alpha in (7.0, jnp.array(7.0)):
        _, pullback = jax.vjp(lambda x, a=alpha: rct_af(x, a, beta=1), x)
        kept = [r for r in jax.tree.leaves(pullback) if r.size > 1]
        assert [(r.shape, r.dtype) for r in kept] == [(x.shape, x.dtype)]
        np.testing.assert_array_equal(kept[0], rct_af_derivative(x, alpha, beta=1, order=1))


def test_one_program_serves_every_alpha():
    traces = []

    @functools.partial(jax.jit, static_argnames="beta")
    def value_and_slope(x, alpha, beta):
        traces.append(beta)
        return jax.value_and_grad(lambda x: rct_af(x, alpha, beta=beta).sum())(x)

    x = jnp.linspace(-1, 1, 5)
    for alpha in (1.0, 7.0, 28.0, 400.0):
        value_and_slope(x, alpha, beta=1)
    value_and_slope(x, 3.0, beta=2)
    assert traces == [1, 2]


def test_eager_calls_do_not_compile_alpha_in_either():
    x = jnp.linspace(-1, 1, 5)
    compilations = []

    def listen(event, seconds, **details):
        if "compile" in event:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        rct_af_derivative(x, 3.0, beta=1, order=7)
        first = len(compilations)
        rct_af_derivative(x, 5.0, beta=1, order=7)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compilations) == first > 0


def test_shapes_types_and_scalars():
    x, alpha = jnp.linspace(-1, 1, 3)[:, None], jnp.array([1.0, 7.0])
    out = rct_af(x, alpha, beta=1)
    assert out.shape == (3, 2)
    np.testing.assert_allclose(out[:, 1], rct_af(x[:, 0], 7.0, beta=1), rtol=1e-6)
    slopes = jax.grad(lambda a: rct_af(x, a, beta=1).sum())(alpha)
    assert slopes.shape == alpha.shape
    assert rct_af(jnp.zeros((0, 4)), 7.0, beta=2).shape == (0, 4)
    assert rct_af(1, 7.0, beta=0).dtype == rct_af(True, 7.0, beta=0).dtype == jnp.float32
    assert rct_af(np.float16(1), jnp.float32(7), beta=0).dtype == jnp.float16
    assert rct_af_derivative(jnp.zeros(2, jnp.bfloat16), alpha, beta=0, order=2).dtype == "bfloat16"


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    x=st.floats(width=32, allow_nan=False, allow_infinity=False),
    alpha=st.floats(min_value=2**-7, max_value=400, width=32),
    beta=st.integers(0, 3),
)
def test_the_family_tends_to_relu(x, alpha, beta):
    """|sigma(x) - relu(x)| <= sup |g_beta(-u)| / alpha over u >= 0."""
    u = np.linspace(0, 60, 6001)
    s = 1 / (1 + np.exp(u))
    q = s * (1 - s)
    to_the_left = [np.log1p(np.exp(-u)), -u * s, -u * s + u**2 * q]
    to_the_left.append(-u * s + 3 * u**2 * q - u**3 * q * (1 - 2 * s))
    supremum = np.max(np.abs(to_the_left[beta]))
    distance = abs(float(rct_af(jnp.float32(x), alpha, beta=beta)) - max(x, 0))
    assert distance <= (1 + 1e-6) * supremum / alpha + 2e-7 * abs(x)


def test_high_orders_are_right_and_what_overflows_is_refused():
    with pytest.raises(InputError, match="overflow float32"):
        rct_af(1.0, 1.0, beta=25)
    with jax.enable_x64(True), mp.workdps(50):
        value = float(rct_af_derivative(-3.0, 1.0, beta=12, order=9))
        exact = float(exact_values(mp.mpf(-3), 13, 10)[12, 9])
        np.testing.assert_allclose(value, exact, rtol=1e-6)


@pytest.mark.parametrize("beta", [-1, 1.5, True, None, np.int64(1)])
def test_wrong_beta(beta):
    with pytest.raises(InputError, match=r"beta is .* int >= 0"):
        rct_af(1.0, 1.0, beta=beta)


@pytest.mark.parametrize("number", [float, np.float64, np.float32, np.array, jnp.float32])
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf")])
def test_wrong_alpha(alpha, number):
    with pytest.raises(InputError, match=r"alpha is .* positive and finite"):
        rct_af(1.0, number(alpha), beta=1)
    with pytest.raises(InputError, match=r"alpha is .* positive and finite"):
        rct_af(1.0, np.array([1.0, alpha]), beta=1)


def test_wrong_order_and_type():
    with pytest.raises(InputError, match="order is -1"):
        rct_af_derivative(1.0, 1.0, beta=1, order=-1)
    with pytest.raises(InputError, match="complex64"):
        rct_af(jnp.ones(1, jnp.complex64), 1.0, beta=1)


def test_computing_types():
    assert compute_dtype(as_float(np.float16(1))) == jnp.float32
    assert as_float(np.arange(2)).dtype == jnp.float32
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            assert compute_dtype(jnp.zeros((), dtype)) == dtype
            assert jnp.exp(-jnp.array(underflow(dtype), dtype)) == 0
