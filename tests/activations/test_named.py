"""Names, and the contract that every activation keeps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.activations import (
    Activation,
    activation_names,
    parse_activation,
    rct_af,
    rct_af_derivative,
)
from rctaf_jax.activations.baselines import BASELINES, baseline_derivative
from rctaf_jax.errors import InputError

CONTRACT = (
    "rct-af:beta=0,curvature=7",
    "rct-af:beta=1,curvature=7",
    "rct-af:beta=2,curvature=7",
    "rct-af:beta=5,alpha=0.5",
    *BASELINES,
)
# sigma(-inf) where it is not 0.
LEFT_LIMITS = {
    "identity": -np.inf,
    "leaky_relu": -np.inf,
    "elu": -1.0,
    "selu": -1.7580993408473766,
    "tanh": -1.0,
}
RIGHT_LIMITS = {"sigmoid": 1.0, "tanh": 1.0}
# sigma'(-inf) and sigma'(inf) where they are not 0 and 1.
SLOPES = {
    "identity": (1.0, 1.0),
    "leaky_relu": (0.01, 1.0),
    "selu": (0.0, 1.0507009873554805),
    "sigmoid": (0.0, 0.0),
    "tanh": (0.0, 0.0),
}
KINKED = ("relu", "leaky_relu", "elu", "selu")
X = jnp.concatenate([jnp.linspace(-5, 5, 41), jnp.array([-80.0, -20.0, 20.0, 80.0])])


def applied(text):
    """sigma as a function of x, through the object a model would hold."""
    activation = parse_activation(text)
    return lambda x: activation.function(x, activation.alpha)


def test_the_contract_covers_every_name():
    assert {text.partition(":")[0] for text in CONTRACT} == set(activation_names())


@pytest.mark.parametrize("text", CONTRACT)
def test_contract_eager_jit_and_batch_agree(text):
    sigma, activation = applied(text), parse_activation(text)
    traces = []

    @jax.jit
    def compiled(x, alpha):
        traces.append(x.shape)
        return activation.function(x, alpha)

    alpha = None if activation.alpha is None else jnp.float32(activation.alpha)
    expected = sigma(X)
    np.testing.assert_allclose(compiled(X, alpha), expected, rtol=1e-6, atol=1e-9)
    compiled(X + 1, None if alpha is None else alpha + 1)
    assert len(traces) == 1
    np.testing.assert_allclose(jax.vmap(sigma)(X), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(activation(X), expected)
    mapped = jax.pmap(activation.function, in_axes=(0, None))(X[None], alpha)
    np.testing.assert_allclose(mapped[0], expected, rtol=1e-6, atol=1e-9)
    assert sigma(jnp.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("text", CONTRACT)
def test_contract_nested_derivatives_are_the_closed_forms(text):
    sigma, activation = applied(text), parse_activation(text)
    first = jax.grad(sigma)
    second = jax.grad(lambda x: jax.jvp(sigma, (x,), (1.0,))[1])  # reverse of forward

    def third(x):
        return jax.jvp(second, (x,), (1.0,))[1]

    values = jax.jit(jax.vmap(lambda x: (first(x), second(x), third(x))))(X)
    for order, value in enumerate(values, start=1):
        expected = activation.derivative(X, order)
        scale = 1 + np.max(np.abs(expected))
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6 * scale)
    remembered = jax.grad(lambda x: jax.checkpoint(sigma)(x).sum())(X)
    np.testing.assert_allclose(remembered, activation.derivative(X, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", CONTRACT)
def test_contract_derivatives_integrate_to_the_function(text):
    """Simpson's rule over each order gives the differences of the order below."""
    activation = parse_activation(text)
    with jax.enable_x64(True):
        # A knot at 0, where some have a kink; the middle points of the cells never touch it.
        knots = jnp.linspace(-3, 3, 1201)
        ends, step = (knots[:-1], knots[1:]), knots[1] - knots[0]
        inside = [knots[:-1] + step * t for t in (0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5)]
        for order in range(1 if text in KINKED else 3):
            low, high = (activation.derivative(e, order) for e in ends)
            slopes = [activation.derivative(p, order + 1) for p in inside]
            area = step * (5 * slopes[0] + 8 * slopes[1] + 5 * slopes[2]) / 18
            np.testing.assert_allclose(high - low, area, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("text", CONTRACT)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_contract_extremes(text, dtype):
    activation, sigma = parse_activation(text), applied(text)
    # SELU's value itself exceeds the largest number there.
    big = float(jnp.finfo(dtype).max) * (0.5 if text == "selu" else 1)
    finite = jnp.array([-big, -1e4, -100, -1e-7, -0.0, 0.0, 1e-7, 100, 1e4, big], dtype)
    x = jnp.concatenate([finite, jnp.array([-jnp.inf, jnp.inf, jnp.nan], dtype)])

    @jax.jit
    def derivatives_and_gradient(x):
        _, pullback = jax.vjp(sigma, x)
        return [activation.derivative(x, n) for n in range(4)], pullback(jnp.ones_like(x))[0]

    derivatives, gradient = derivatives_and_gradient(x)
    for order, values in enumerate(derivatives):
        assert values.dtype == x.dtype
        assert jnp.all(jnp.isfinite(values[:-3])), order
        low, high, nan = np.asarray(values[-3:], np.float64)
        limits = (LEFT_LIMITS.get(text, 0.0), RIGHT_LIMITS.get(text, np.inf))
        limits = SLOPES.get(text, (0.0, 1.0)) if order == 1 else limits
        limits = (0.0, 0.0) if order > 1 else limits
        np.testing.assert_allclose((low, high), limits, rtol=5e-3 if dtype != "float32" else 1e-6)
        assert order or np.isnan(nan)
    slopes = (a.astype(jnp.float32) for a in (gradient, derivatives[1]))
    np.testing.assert_array_equal(*slopes)


@pytest.mark.parametrize("text", CONTRACT)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_contract_half_precision_is_float32_rounded(text, dtype):
    """Within one unit in the last place, through the gradient too."""
    activation = parse_activation(text)
    x = X.astype(dtype)
    for order in range(3):
        value = activation.derivative(x, order)
        expected = activation.derivative(x.astype(jnp.float32), order).astype(dtype)
        steps = value.view(jnp.int16).astype(jnp.int32) - expected.view(jnp.int16)
        assert jnp.all((jnp.abs(steps) <= 1) | (value == expected)), order


@pytest.mark.parametrize("text", CONTRACT)
def test_contract_text_comes_back(text):
    activation = parse_activation(text)
    assert parse_activation(activation.text) == activation
    assert parse_activation(activation) is activation
    assert parse_activation(text.upper()) == activation
    assert hash(parse_activation(activation.text)) == hash(activation)
    assert activation.function is parse_activation(text).function
    assert activation.max_curvature == activation.curvature.value >= 0
    if text in activation_names():
        np.testing.assert_array_equal(baseline_derivative(text, X, 0), activation(X))


def test_one_function_a_family_whatever_alpha():
    low, high = (parse_activation(f"rct-af:beta=1,alpha={a}") for a in (2, 400))
    assert low.function is high.function
    assert low.name == high.name == "rct-af:beta=1"
    assert low != high
    assert parse_activation("rct-af:beta=2,alpha=2").function is not low.function
    np.testing.assert_array_equal(low.function(X, 2.0), rct_af(X, 2.0, beta=1))
    np.testing.assert_array_equal(low.derivative(X, 2), rct_af_derivative(X, 2.0, beta=1, order=2))
    with pytest.raises(InputError, match="needs alpha"):
        low.function(X, None)


@pytest.mark.parametrize(
    ("text", "name", "alpha", "canonical"),
    [
        ("rct-af:beta=1,curvature=7", "rct-af:beta=1", 14.0, "rct-af:beta=1,alpha=14"),
        (" RCT-AF : Curvature = 7, Beta = 0 ", "rct-af:beta=0", 28.0, "rct-af:beta=0,alpha=28"),
        ("rct_af:beta=02,alpha=1e-1", "rct-af:beta=2", 0.1, "rct-af:beta=2,alpha=0.1"),
        ("rct-af:beta=0,alpha=1e300", "rct-af:beta=0", 1e300, "rct-af:beta=0,alpha=1e+300"),
        ("GeLU", "gelu", None, "gelu"),
        ("Leaky-ReLU", "leaky_relu", None, "leaky_relu"),
    ],
)
def test_spellings(text, name, alpha, canonical):
    activation = parse_activation(text)
    beta = int(name[-1]) if alpha else None
    assert activation == Activation(name, activation.function, alpha, beta)
    assert activation.text == canonical
    assert parse_activation(canonical) == activation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tan", "unknown activation 'tan'; known are rct-af, identity, relu, .*mish"),
        ("", "unknown activation"),
        ("gelu:alpha=1", "gelu takes no settings"),
        ("gelu:", "gelu takes no settings"),
        ("rct-af", "needs beta and exactly one of alpha and curvature"),
        ("rct-af:alpha=1", "needs beta"),
        ("rct-af:beta=1", "exactly one of alpha and curvature"),
        ("rct-af:beta=1,alpha=1,curvature=1", "exactly one of alpha and curvature"),
        ("rct-af:beta=1,alpha=1,alpha=2", "each once"),
        ("rct-af:beta=1,gamma=1", "settings beta, gamma; allowed are beta"),
        ("rct-af:beta=1,alpha=1,", "allowed are beta"),
        ("rct-af:beta=-1,alpha=1", "beta is '-1'; it must be an integer >= 0"),
        ("rct-af:beta=1.5,alpha=1", "beta is '1.5'"),
        ("rct-af:beta=,alpha=1", "beta is ''"),
        ("rct-af:beta=²,alpha=1", "beta is '²'"),
        ("rct-af:beta=50,curvature=1", "beta is 50"),
        ("rct-af:beta=1,curvature=1e308", "its alpha would be inf; it must be positive and finite"),
        *(
            (f"rct-af:beta=1,{key}={value}", f"{key} is '{value}'; it must be positive and finite")
            for key, value in itertools.product(
                ("alpha", "curvature"), ("0", "-7", "nan", "inf", "seven", "")
            )
        ),
    ],
)
def test_wrong_text(text, message):
    with pytest.raises(InputError, match=message):
        parse_activation(text)


@pytest.mark.parametrize("thing", [None, 7, jax.nn.relu])
def test_not_text(thing):
    with pytest.raises(InputError, match="must be text such as"):
        parse_activation(thing)
