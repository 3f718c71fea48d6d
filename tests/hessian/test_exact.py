from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import exact_diagonal


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


@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_equals_the_whole_hessian_for_any_chunk(chunk_size: int) -> None:
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


def test_bad_chunk_size() -> None:
    with pytest.raises(InputError, match="chunk_size must be at least 1, got 0"):
        exact_diagonal(jnp.sum, jnp.ones(2), chunk_size=0)
