"""The ends of spectra against dense eigenvalues."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import extreme_eigenvalues, hessian_vector_product, make_dataset_product

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def rotated(values: np.ndarray) -> jax.Array:
    basis, _ = np.linalg.qr(RNG.normal(size=(len(values), len(values))))
    return jnp.asarray((basis * values) @ basis.T)


SPECTRA = {
    "one parameter": [3.0],
    "zero": np.zeros(40),
    "identity": np.ones(20),
    "two alike": [1.0, 1.0],
    "rank 5": [1, 2, 3, 4, 5, *np.zeros(55)],
    "three times the largest": [10, 10, 10, *np.linspace(0, 1, 97)],
    "clusters at both ends": [*(10 - 1e-6 * np.arange(5)), *(-1e-6 * np.arange(5)), *np.ones(70)],
    "a bulk": np.random.default_rng(1).normal(size=120),
    "negative": -np.exp(np.random.default_rng(2).normal(size=60)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_every_eigenvalue_with_its_multiplicity(name: str) -> None:
    values = np.sort(np.asarray(SPECTRA[name], float))
    matrix, count = rotated(values), min(3, len(values))
    found = extreme_eigenvalues(
        lambda v: matrix @ v,
        jnp.zeros(len(values)),
        KEY,
        num_largest=count,
        num_smallest=count,
        tolerance=1e-9,
    )
    scale = np.abs(values).max()
    assert found.is_converged
    np.testing.assert_allclose(found.largest.values, values[::-1][:count], atol=1e-12 * scale)
    np.testing.assert_allclose(found.smallest.values, values[:count], atol=1e-12 * scale)
    for pairs in (found.largest, found.smallest):
        vectors = np.asarray(pairs.vectors)
        np.testing.assert_allclose(vectors @ vectors.T, np.eye(count), atol=1e-6)
        residuals = vectors @ matrix - pairs.values[:, None] * vectors
        np.testing.assert_allclose(
            np.linalg.norm(residuals, axis=1), pairs.residuals, atol=1e-13 * max(scale, 1)
        )
        assert (pairs.residuals <= 2e-9 * scale).all()


def network(width: int) -> tuple[dict[str, jax.Array], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    params = {
        "hidden": jnp.asarray(rng.normal(size=(16, width)) / 4),
        "bias": jnp.asarray(rng.normal(size=width)),
        "out": jnp.asarray(rng.normal(size=(width, 3))),
    }
    return params, rng.uniform(size=(24, 4, 4, 1)), rng.integers(0, 3, 24)


def losses(params: dict[str, jax.Array], _: tuple, x: jax.Array, y: jax.Array) -> jax.Array:
    logits = jnp.tanh(x.reshape(len(x), 16) @ params["hidden"] + params["bias"]) @ params["out"]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)[:, 0]


def test_a_network_of_2000_parameters_to_1e_8() -> None:
    params, images, labels = network(100)
    flat, restore = ravel_pytree(params)
    assert flat.size == 2000
    dense = jax.jit(jax.hessian(lambda w: losses(restore(w), (), images, labels).mean()))(flat)
    expected = np.linalg.eigvalsh(dense)
    product = make_dataset_product(losses, batch_size=10)(params, (), images, labels)
    found = extreme_eigenvalues(product, params, KEY, num_largest=5, num_smallest=5, tolerance=1e-8)
    scale = np.abs(expected).max()
    assert found.is_converged
    np.testing.assert_allclose(found.largest.values, expected[::-1][:5], atol=1e-8 * scale)
    np.testing.assert_allclose(found.smallest.values, expected[:5], atol=1e-8 * scale)
    assert jax.tree.map(jnp.shape, found.largest.vectors) == {
        "hidden": (5, 16, 100),
        "bias": (5, 100),
        "out": (5, 100, 3),
    }
    assert f"by {found.num_products:,} Hessian-vector products" in found.summary()


def test_devices_share_the_batches() -> None:
    params, images, labels = network(4)
    whole, shared = (
        make_dataset_product(losses, batch_size=8, devices=devices)(params, (), images, labels)
        for devices in (None, jax.devices()[:2])
    )
    one, other = (extreme_eigenvalues(p, params, KEY, tolerance=1e-9) for p in (whole, shared))
    np.testing.assert_allclose(one.largest.values, other.largest.values, rtol=1e-12)


def test_products_are_counted_and_none_is_spent_without_need() -> None:
    values, calls = np.array([9.0, 4.0, 1.0, *np.zeros(47)]), []
    matrix = rotated(values)

    def product(vector: jax.Array) -> jax.Array:
        calls.append(1)
        return matrix @ vector

    found = extreme_eigenvalues(product, jnp.zeros(50), KEY, tolerance=1e-6)
    assert found.num_products == len(calls) == 17


def test_a_bound_holds_where_the_limit_comes_first() -> None:
    values = np.sort(np.random.default_rng(5).normal(size=200))
    matrix = rotated(values)
    found = extreme_eigenvalues(
        lambda v: matrix @ v, jnp.zeros(200), KEY, num_largest=4, tolerance=1e-9, max_products=24
    )
    assert not found.is_converged
    assert found.num_products == 24
    nearest = np.abs(values[:, None] - found.largest.values).min(axis=0)
    assert (nearest <= found.largest.residuals).all()
    assert nearest.max() > 1e-6
    assert "not converged" in found.summary()


def test_python_floats_and_float32() -> None:
    params = {"a": 1.0, "b": jnp.ones(3, jnp.float32)}

    def loss(w: dict) -> jax.Array:
        return w["a"] ** 2 + jnp.sum(w["b"] ** 3)

    found = extreme_eigenvalues(
        lambda v: hessian_vector_product(loss, params, v), params, KEY, num_smallest=1
    )
    assert found.largest.values[0] == pytest.approx(6)
    assert found.smallest.values[0] == pytest.approx(2)
    assert found.smallest.vectors["a"].shape == (1,)


def test_bad_input() -> None:
    def find(params: object = None, **options: object) -> None:
        params = jnp.zeros(3) if params is None else params
        extreme_eigenvalues(lambda v: v, params, KEY, **options)

    with pytest.raises(InputError, match=r"got 4 largest and 0 smallest .* parameters, 3"):
        find(num_largest=4)
    for options in ({"num_largest": 0}, {"num_largest": -1}):
        with pytest.raises(InputError, match="at least one"):
            find(**options)
    for tolerance in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="tolerance must be between 0 and 1"):
            find(tolerance=tolerance)
    with pytest.raises(InputError, match="max_products must be at least 2"):
        find(max_products=1)
    for params in ({}, jnp.zeros(0), jnp.zeros(3, int), jnp.zeros(3, bool), jnp.zeros(3, complex)):
        with pytest.raises(InputError, match="floating-point types only"):
            find(params)
    with pytest.raises(InputError, match="not finite"):
        extreme_eigenvalues(lambda v: v / 0, jnp.zeros(3), KEY)
