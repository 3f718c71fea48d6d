"""The parts of a Hessian against dense ones."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    exact_diagonal,
    gauss_newton_loss,
    gauss_newton_losses,
    gauss_newton_product,
    hessian_vector_product,
    make_dataset_entries,
    make_dataset_product,
    residual_loss,
    residual_losses,
    residual_product,
    trace,
)
from rctaf_jax.losses import cross_entropy

Params = dict[str, jax.Array]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.uniform(size=(12, 2, 2, 1)), RNG.integers(0, 3, 12)
WEIGHTS = {"hidden": RNG.normal(size=(4, 5)), "out": RNG.normal(size=(5, 3))}


def params() -> Params:
    return jax.tree.map(jnp.asarray, WEIGHTS)


def logits(params: Params, rest: tuple, images: jax.Array) -> jax.Array:
    return jax.nn.softplus(images.reshape(len(images), 4) @ params["hidden"]) @ params["out"]


def squared(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.sum((outputs - jax.nn.one_hot(labels, 3)) ** 4, axis=1)


def of_params(params: Params) -> jax.Array:
    return logits(params, (), jnp.asarray(IMAGES))


def dense(losses: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Gauss-Newton part, the rest and the Hessian, by their formulas in full."""
    flat, restore = ravel_pytree(params())

    def outputs(flat: jax.Array) -> jax.Array:
        return of_params(restore(flat)).ravel()

    def loss(z: jax.Array) -> jax.Array:
        return losses(z.reshape(12, 3), LABELS).mean()

    jacobian = jax.jacobian(outputs)(flat)
    z = outputs(flat)
    gauss_newton = jacobian.T @ jax.hessian(loss)(z) @ jacobian
    rest = jnp.einsum("c,cij->ij", jax.grad(loss)(z), jax.hessian(outputs)(flat))
    whole = jax.hessian(lambda flat: loss(outputs(flat)))(flat)
    return np.asarray(gauss_newton), np.asarray(rest), np.asarray(whole)


@pytest.mark.parametrize("losses", [cross_entropy, squared])
def test_parts_are_their_formulas_and_add_up(losses: Callable) -> None:
    gauss_newton, rest, whole = dense(losses)
    flat, restore = ravel_pytree(params())
    vector = restore(jnp.asarray(np.random.default_rng(1).normal(size=flat.shape)))

    def loss(z: jax.Array) -> jax.Array:
        return losses(z, LABELS).mean()

    one = ravel_pytree(gauss_newton_product(of_params, loss, params(), vector))[0]
    other = ravel_pytree(residual_product(of_params, loss, params(), vector))[0]
    both = hessian_vector_product(lambda w: loss(of_params(w)), params(), vector)
    flat_vector = ravel_pytree(vector)[0]
    scale = np.abs(whole @ flat_vector).max()
    np.testing.assert_allclose(one, gauss_newton @ flat_vector, atol=1e-14 * scale)
    np.testing.assert_allclose(other, rest @ flat_vector, atol=1e-14 * scale)
    np.testing.assert_allclose(one + other, ravel_pytree(both)[0], atol=1e-14 * scale)
    assert np.abs(rest).max() > 0.01 * np.abs(whole).max()
    for part, matrix in ((gauss_newton_loss, gauss_newton), (residual_loss, rest)):
        diagonal = exact_diagonal(part(of_params, loss), params())
        np.testing.assert_allclose(ravel_pytree(diagonal)[0], np.diag(matrix), atol=1e-13)


def test_fishers_matrix_is_gauss_newtons_for_cross_entropy() -> None:
    """E over the network's own classes of the gradient's outer product, class by class."""
    flat, restore = ravel_pytree(params())
    probabilities = jax.nn.softmax(of_params(params()))
    fisher = np.zeros((flat.size, flat.size))
    for label in range(3):
        labels = jnp.full(12, label)
        gradients = jax.jacobian(lambda w, y=labels: cross_entropy(of_params(restore(w)), y))(flat)
        fisher += np.einsum("n,ni,nj->ij", probabilities[:, label], gradients, gradients) / 12
    np.testing.assert_allclose(fisher, dense(cross_entropy)[0], atol=1e-14)


@pytest.mark.parametrize(
    ("make", "place"), [(gauss_newton_losses, 0), (residual_losses, 1)], ids=["first", "rest"]
)
def test_datasets_devices_and_estimators_take_the_parts(make: Callable, place: int) -> None:
    matrix = dense(cross_entropy)[place]
    flat, restore = ravel_pytree(params())
    loss_fn = make(logits, cross_entropy)
    vector = jnp.asarray(np.random.default_rng(2).normal(size=flat.shape))
    for batch_size, devices in ((12, None), (8, None), (8, jax.devices()[:2])):
        bind = make_dataset_product(loss_fn, batch_size=batch_size, devices=devices)
        product = bind(params(), (), IMAGES, LABELS)
        found = ravel_pytree(product(restore(vector)))[0]
        np.testing.assert_allclose(found, matrix @ vector, atol=1e-14)
    entries = make_dataset_entries(loss_fn, batch_size=8)(params(), (), IMAGES, LABELS)
    np.testing.assert_allclose(entries(np.arange(flat.size)), np.diag(matrix), atol=1e-14)
    found = trace.estimate(trace.run(trace.init(), product, params(), range(30), jax.random.key(0)))
    assert abs(found.trace.value - np.trace(matrix)) < 4 * found.trace.standard_error


def test_bad_input() -> None:
    for product in (gauss_newton_product, residual_product):
        for bad in ({}, jnp.zeros(2, int), jnp.zeros(2, bool), jnp.zeros(2, complex)):
            with pytest.raises(InputError, match="floating-point types only"):
                product(lambda w: w, jnp.sum, bad, bad)
    with pytest.raises(InputError, match=r"loss of shape \(2,\)"):
        gauss_newton_product(lambda w: w, lambda z: z**2, jnp.ones(2), jnp.ones(2))
