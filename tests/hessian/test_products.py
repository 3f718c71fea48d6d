from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    hessian_vector_product,
    make_dataset_gradient,
    make_dataset_product,
)

Params = dict[str, jax.Array]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _network(seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    return {
        "hidden": jnp.asarray(rng.normal(size=(4, 5))),
        "bias": jnp.asarray(rng.normal(size=5)),
        "out": jnp.asarray(rng.normal(size=(5, 3))),
    }


def _losses(params: Params, alpha: float, images: jax.Array, labels: jax.Array) -> jax.Array:
    x = images.reshape(len(images), -1) @ params["hidden"] + params["bias"]
    logits = (x * jax.nn.sigmoid(alpha * x)) @ params["out"]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]


def _data(num_examples: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.uniform(size=(num_examples, 2, 2, 1)), rng.integers(0, 3, num_examples)


def _relative(actual: Params, expected: Params) -> float:
    one, other = ravel_pytree(actual)[0], ravel_pytree(expected)[0]
    return float(jnp.linalg.norm(one - other) / jnp.linalg.norm(other))


def test_product_equals_the_whole_hessian() -> None:
    params, (images, labels) = _network(), _data()
    flat, restore = ravel_pytree(params)

    def loss(flat: jax.Array) -> jax.Array:
        return _losses(restore(flat), 2.0, jnp.asarray(images), jnp.asarray(labels)).mean()

    vector = jnp.asarray(np.random.default_rng(2).normal(size=flat.shape))
    expected = jax.jit(jax.hessian(loss))(flat) @ vector
    alone = jax.jit(lambda flat, v: hessian_vector_product(loss, flat, v))(flat, vector)
    np.testing.assert_allclose(alone, expected, atol=1e-13)
    bind = make_dataset_product(_losses, batch_size=8)
    dataset = bind(params, 2.0, images, labels)(restore(vector))
    assert _relative(dataset, restore(expected)) < 1e-13


def test_uneven_split_is_exact() -> None:
    """16 + 4 examples against all 20: weights by count, not a mean of batch means."""
    params, (images, labels) = _network(), _data()
    vector = _network(3)
    whole = make_dataset_product(_losses, batch_size=20)(params, 1.0, images, labels)(vector)
    for batch_size in (16, 7, 32):
        bind = make_dataset_product(_losses, batch_size=batch_size)
        assert _relative(bind(params, 1.0, images, labels)(vector), whole) < 2e-15


@pytest.mark.parametrize("num_devices", [1, 2, 4])
def test_any_number_of_devices_gives_the_same(num_devices: int) -> None:
    """20 examples in batches of 16 over up to 4 devices: the last batch is mostly padding."""
    devices = jax.devices()[:num_devices]
    if len(devices) < num_devices:
        pytest.skip(f"needs {num_devices} devices")
    params, (images, labels) = _network(), _data()
    whole = make_dataset_product(_losses, batch_size=20)(params, 1.0, images, labels)
    bind = make_dataset_product(_losses, batch_size=16, devices=devices)
    product = bind(params, 1.0, images, labels)
    for seed in (3, 4):
        result = product(_network(seed))
        assert _relative(result, whole(_network(seed))) < 2e-15
        assert all(leaf.devices() == {devices[0]} for leaf in jax.tree.leaves(result))
    gradient = make_dataset_gradient(_losses, batch_size=16, devices=devices)
    expected = make_dataset_gradient(_losses, batch_size=20)
    actual = gradient(params, 1.0, images, labels)
    assert _relative(actual, expected(params, 1.0, images, labels)) < 2e-15


def test_gradient_equals_autodiff() -> None:
    params, (images, labels) = _network(), _data()
    x, y = jnp.asarray(images), jnp.asarray(labels)
    expected = jax.jit(jax.grad(lambda params: _losses(params, 1.0, x, y).mean()))(params)
    for batch_size in (16, 20):
        gradient = make_dataset_gradient(_losses, batch_size=batch_size)
        assert _relative(gradient(params, 1.0, images, labels), expected) < 2e-15


def test_uint8_images_are_scaled() -> None:
    grey, labels = np.arange(20, dtype=np.uint8).reshape(5, 2, 2, 1) * 12, np.arange(5) % 3
    bind, vector = make_dataset_product(_losses, batch_size=3), _network(3)
    scaled = bind(_network(), 1.0, grey, labels)(vector)
    floats = bind(_network(), 1.0, grey / 255, labels)(vector)
    assert _relative(scaled, floats) < 1e-15


def test_product_is_linear_and_symmetric() -> None:
    product = make_dataset_product(_losses, batch_size=8)(_network(), 1.0, *_data())
    u, v = _network(4), _network(5)
    hu, hv = (ravel_pytree(product(w))[0] for w in (u, v))
    both = product(jax.tree.map(lambda a, b: 2 * a - 3 * b, u, v))
    np.testing.assert_allclose(ravel_pytree(both)[0], 2 * hu - 3 * hv, atol=1e-12)
    np.testing.assert_allclose(ravel_pytree(u)[0] @ hv, ravel_pytree(v)[0] @ hu, rtol=1e-12)


def test_one_program_for_all_networks() -> None:
    traced = []

    def losses(params: Params, alpha: float, x: jax.Array, labels: jax.Array) -> jax.Array:
        traced.append(alpha)
        return _losses(params, alpha, x, labels)

    bind = make_dataset_product(losses, batch_size=8)
    results = []
    first_count = None
    for seed, alpha in ((0, 1.0), (1, 5.0), (2, 20.0)):
        results.append(bind(_network(seed), alpha, *_data(20 + seed))(_network(9)))
        first_count = first_count or len(traced)
    assert len(traced) == first_count
    assert _relative(results[0], results[1]) > 0.1


def test_bad_input() -> None:
    bind = make_dataset_product(_losses, batch_size=8)
    images, labels = _data()
    with pytest.raises(InputError, match="labels of shape"):
        bind(_network(), 1.0, images, labels[:3])
    with pytest.raises(InputError, match="batch size 7 cannot be shared equally by 2 devices"):
        make_dataset_product(_losses, batch_size=7, devices=jax.devices()[:1] * 2)
    with pytest.raises(InputError, match="got no devices"):
        make_dataset_product(_losses, batch_size=8, devices=[])
    mean = make_dataset_product(lambda *arguments: _losses(*arguments).mean(), batch_size=8)
    with pytest.raises(InputError, match=r"losses of shape \(\) for 8 examples: expected one for"):
        mean(_network(), 1.0, images, labels)(_network())


def test_a_loss_that_is_not_scalar_is_refused() -> None:
    with pytest.raises(InputError, match=r"got a loss of shape \(2,\): expected one number"):
        hessian_vector_product(lambda w: w**2, jnp.ones(2), jnp.ones(2))


def test_memory_of_a_batch_grows_with_it() -> None:
    def losses(w: jax.Array, rest: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        hidden = jnp.tanh(x.reshape(len(x), -1) @ w)
        return jnp.tanh(hidden @ w).sum(-1)

    params, sizes = jnp.eye(64), []
    for batch_size in (4, 256):
        bind = make_dataset_product(losses, batch_size=batch_size)
        product = bind(params, (), np.zeros((256, 8, 8, 1)), np.zeros(256, int))
        sizes.append(product.num_bytes(params))
    assert None not in sizes
    # At least the activations of both layers.
    assert sizes[1] > 2 * 256 * 64 * 4
    assert sizes[0] < sizes[1]
