from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rctaf_jax.activations import activation_names, parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.hessian import exact_diagonal, make_dataset_entries
from rctaf_jax.hessian.exact import fitting_chunk


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _draw(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape))


def test_linear_regression_in_closed_form() -> None:
    x, y = _draw(30, 6), _draw(30)
    diagonal = exact_diagonal(lambda w: jnp.mean((x @ w - y) ** 2), _draw(6))
    np.testing.assert_allclose(diagonal, 2 / 30 * (x**2).sum(axis=0), rtol=1e-10)


def test_softmax_regression_in_closed_form() -> None:
    x, weights, labels = _draw(30, 6), _draw(6, 4), jnp.arange(30) % 4

    def loss(w: jax.Array) -> jax.Array:
        return -jnp.mean(jax.nn.log_softmax(x @ w)[jnp.arange(30), labels])

    p = jax.nn.softmax(x @ weights)
    expected = (x**2).T @ (p * (1 - p)) / 30
    np.testing.assert_allclose(exact_diagonal(loss, weights), expected, rtol=1e-10)


def _smooth(params: dict[str, jax.Array]) -> jax.Array:
    hidden = jax.nn.softplus(5 * _draw(10, 3) @ params["in"] + params["bias"])
    return jnp.mean((hidden @ params["out"]) ** 4)


@pytest.mark.parametrize("chunk_size", [1, 3, 64, None])
def test_equals_the_whole_hessian_for_any_chunk(chunk_size: int | None) -> None:
    params = {"in": _draw(3, 4), "bias": _draw(4), "out": _draw(4)}
    flat, restore = ravel_pytree(params)
    expected = jnp.diag(jax.jit(jax.hessian(lambda flat: _smooth(restore(flat))))(flat))
    actual = exact_diagonal(_smooth, params, chunk_size=chunk_size)
    assert jax.tree.map(jnp.shape, actual) == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(ravel_pytree(actual)[0], expected, rtol=1e-11, atol=1e-12)


def test_relu_network_with_a_skip_has_its_gauss_newton_diagonal() -> None:
    """sigma'' = 0 almost everywhere, and the loss is convex in the logits: no negative entry."""
    x, labels = _draw(12, 3), jnp.arange(12) % 3
    flat, restore = ravel_pytree({"in": _draw(3, 3), "out": _draw(3, 3)})

    def logits(flat: jax.Array) -> jax.Array:
        params = restore(flat)
        return (x + jax.nn.relu(x @ params["in"])) @ params["out"]

    def loss(flat: jax.Array) -> jax.Array:
        return -jnp.mean(jax.nn.log_softmax(logits(flat))[jnp.arange(12), labels])

    jacobian = jax.jit(jax.jacobian(logits))(flat)
    p = jax.nn.softmax(logits(flat))
    outer = jnp.einsum("nc,cd->ncd", p, jnp.eye(3)) - jnp.einsum("nc,nd->ncd", p, p)
    gauss_newton = jnp.einsum("nck,ncd,ndk->k", jacobian, outer, jacobian) / 12
    diagonal = exact_diagonal(loss, flat)
    np.testing.assert_allclose(diagonal, gauss_newton, atol=1e-13)
    assert (diagonal >= -1e-15).all()
    assert (diagonal > 0).any()


def _plain_family(beta: int) -> Callable[[jax.Array], jax.Array]:
    """g_beta by its recursion, differentiated as code."""

    def g(u: jax.Array) -> jax.Array:
        if beta == 0:
            return jnp.log1p(jnp.exp(u))
        return u * jax.jvp(_plain_family(beta - 1), (u,), (jnp.ones_like(u),))[1]

    return g


PLAIN: dict[str, Callable[[jax.Array], jax.Array]] = {
    **{f"rct-af:beta={b},alpha=3": lambda x, b=b: _plain_family(b)(3 * x) / 3 for b in range(3)},
    "identity": lambda x: x,
    "relu": lambda x: jnp.where(x > 0, x, 0),
    "leaky_relu": lambda x: jnp.where(x > 0, x, 0.01 * x),
    "elu": lambda x: jnp.where(x > 0, x, jnp.exp(x) - 1),
    "selu": lambda x: (
        1.0507009873554805 * jnp.where(x > 0, x, 1.6732632423543772 * (jnp.exp(x) - 1))
    ),
    "gelu": lambda x: x * (1 + jax.lax.erf(x / np.sqrt(2))) / 2,
    "softplus": lambda x: jnp.log1p(jnp.exp(x)),
    "swish": lambda x: x / (1 + jnp.exp(-x)),
    "mish": lambda x: x * jnp.tanh(jnp.log1p(jnp.exp(x))),
    "sigmoid": lambda x: 1 / (1 + jnp.exp(-x)),
    "tanh": lambda x: (1 - jnp.exp(-2 * x)) / (1 + jnp.exp(-2 * x)),
}


def test_every_activation_has_its_plain_formula() -> None:
    assert {name.partition(":")[0] for name in PLAIN} == set(activation_names())


@pytest.mark.parametrize("name", PLAIN)
def test_closed_forms_equal_nested_autodiff_of_the_plain_formula(name: str) -> None:
    weights, x, y = _draw(6), _draw(5, 6), _draw(5)

    def loss(sigma: Callable[[jax.Array], jax.Array], weights: jax.Array) -> jax.Array:
        return jnp.mean((sigma(x @ weights) - y) ** 2)

    plain = np.asarray(jax.jit(jax.hessian(lambda w: loss(PLAIN[name], w)))(weights))
    diagonal = exact_diagonal(lambda w: loss(parse_activation(name), w), weights)
    np.testing.assert_allclose(diagonal, np.diag(plain), atol=1e-13 * np.abs(plain).max())


def test_some_parameters_in_any_order() -> None:
    params = {"in": _draw(3, 4), "bias": _draw(4), "out": _draw(4)}
    whole = exact_diagonal(_smooth, params)
    wanted = np.array([17, 0, 5, 5, 19])
    some = exact_diagonal(_smooth, params, parameters=wanted, chunk_size=2)
    np.testing.assert_allclose(some, ravel_pytree(whole)[0][wanted], rtol=1e-12)
    mask = jax.tree.map(jnp.zeros_like, params) | {"bias": jnp.ones(4)}
    of_bias = np.flatnonzero(ravel_pytree(mask)[0])
    actual = exact_diagonal(_smooth, params, parameters=of_bias)
    np.testing.assert_allclose(actual, whole["bias"], rtol=1e-12)


def test_one_program_for_all_alphas() -> None:
    traced = []

    @jax.jit
    def diagonal(params: dict[str, jax.Array], alpha: jax.Array) -> dict[str, jax.Array]:
        traced.append(alpha)
        sigma = parse_activation("rct-af:beta=1,alpha=1").function

        def loss(params: dict[str, jax.Array]) -> jax.Array:
            return jnp.mean(sigma(x @ params["in"], alpha) @ params["out"])

        return exact_diagonal(loss, params)

    x, params = _draw(7, 3), {"in": _draw(3, 4), "out": _draw(4)}
    first, second = (diagonal(params, alpha)["in"] for alpha in (1.0, 5.0))
    assert len(traced) == 1
    sigma = parse_activation("rct-af:beta=1,alpha=5")
    curvature = sigma.derivative(x @ params["in"], 2) * params["out"]
    np.testing.assert_allclose(second, (x**2).T @ curvature / 7, rtol=1e-12, atol=1e-13)
    assert not np.allclose(first, second)


def test_float32_has_six_digits() -> None:
    params = {"in": _draw(3, 4), "bias": _draw(4), "out": _draw(4)}
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    actual = exact_diagonal(lambda p: _smooth(p).astype(jnp.float32), single)
    assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {jnp.dtype("float32")}
    expected = ravel_pytree(exact_diagonal(_smooth, params))[0]
    error = jnp.linalg.norm(ravel_pytree(actual)[0] - expected)
    assert error < 1e-5 * jnp.linalg.norm(expected)


@pytest.mark.parametrize(
    ("chunk_size", "num_products", "vector_bytes", "expected"),
    [
        (None, 1000, 8, 63),
        (None, 3, 8, 3),
        (None, 1000, 2**26, 4),
        (None, 9, 2**40, 1),
        (8, 9, 8, 5),
    ],
)
def test_chunks_fit_a_budget(
    chunk_size: int | None, num_products: int, vector_bytes: int, expected: int
) -> None:
    assert fitting_chunk(chunk_size, num_products, vector_bytes) == expected


@pytest.mark.parametrize(
    ("params", "settings", "message"),
    [
        (np.ones(2), {"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        (np.ones(2), {"parameters": np.array([0, 2])}, "at least one index from 0 to 1"),
        (np.ones(2), {"parameters": np.array([-1])}, "at least one index from 0 to 1"),
        (np.ones(2), {"parameters": np.array([], int)}, r"got parameters of shape \(0,\)"),
        (np.ones(2), {"parameters": np.array([True, False])}, "type bool"),
        (np.ones(2), {"parameters": np.array([[0]])}, r"got parameters of shape \(1, 1\)"),
        ({}, {}, "got params with 0 entries"),
        ({"a": 1.0, "b": np.arange(2)}, {}, r"types \['float\d+', 'int64'\]"),
    ],
)
def test_bad_input(params: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        exact_diagonal(jnp.sum, params, **settings)


def _example_losses(
    params: dict[str, jax.Array], rest: jax.Array, images: jax.Array, labels: jax.Array
) -> jax.Array:
    hidden = jnp.tanh(images.reshape(len(images), -1) @ params["in"] + params["bias"])
    return rest * (hidden @ params["out"] - labels) ** 4


@pytest.mark.parametrize("num_devices", [None, 1, 4])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_entries_over_batches(num_devices: int | None, chunk_size: int | None) -> None:
    """20 examples in batches of 16 and 4, as one batch; the entries in any order."""
    params = {"in": _draw(3, 4), "bias": _draw(4), "out": _draw(4)}
    images, labels = np.abs(np.asarray(_draw(20, 1, 3, 1))) % 1, np.arange(20) % 3
    devices = None if num_devices is None else jax.local_devices()[:num_devices]
    bind = make_dataset_entries(
        _example_losses, batch_size=16, chunk_size=chunk_size, devices=devices
    )
    wanted = np.array([19, 0, 7, 7, 12])
    entries = bind(params, 0.5, images, labels)(wanted)

    def loss(params: dict[str, jax.Array]) -> jax.Array:
        return _example_losses(params, 0.5, images, labels).mean()

    expected = ravel_pytree(exact_diagonal(loss, params))[0][wanted]
    np.testing.assert_allclose(entries, expected, rtol=1e-12, atol=1e-14)


def test_entries_of_a_bad_chunk() -> None:
    bind = make_dataset_entries(_example_losses, batch_size=4, chunk_size=0)
    params = {"in": _draw(3, 4), "bias": _draw(4), "out": _draw(4)}
    entries = bind(params, 1.0, np.zeros((4, 1, 3, 1)), np.zeros(4, int))
    with pytest.raises(InputError, match="chunk_size must be at least 1, got 0"):
        entries(np.array([0]))


def test_a_loss_that_is_not_scalar_is_refused() -> None:
    with pytest.raises(InputError, match=r"got a loss of shape \(2,\): expected one number"):
        exact_diagonal(lambda w: w**2, jnp.ones(2))
