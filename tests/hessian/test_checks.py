import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import check_deterministic, check_independent

IMAGES = np.random.default_rng(0).uniform(size=(8, 2, 2, 1)).astype(np.float32)
LABELS = np.arange(8) % 2


def test_dropout_is_refused() -> None:
    """Its mask is the same at every call, and so are the gradients; but it knows the place."""

    def losses(
        params: jax.Array, rest: jax.Array, images: jax.Array, labels: jax.Array
    ) -> jax.Array:
        flat = images.reshape(len(images), -1)
        kept = jax.random.bernoulli(jax.random.key(0), 0.5, flat.shape)
        return (jnp.where(kept, flat, 0) @ params) ** 2

    with pytest.raises(InputError, match=r"copies of one example .* turn dropout off"):
        check_independent(losses, jnp.ones(4), (), IMAGES, LABELS)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_losses_that_are_not_finite_are_called_so(value: float) -> None:
    def losses(params: jax.Array, rest: tuple, images: jax.Array, labels: jax.Array) -> jax.Array:
        return images.reshape(len(images), -1) @ params + value

    with pytest.raises(InputError, match="losses are not finite"):
        check_independent(losses, jnp.ones(4), (), IMAGES, LABELS)


def test_deterministic_gradient_passes() -> None:
    check_deterministic(lambda: {"a": jnp.ones(3), "b": jnp.zeros(2)})
    check_deterministic(lambda: jnp.zeros(3))


def test_random_gradient_is_refused() -> None:
    values = iter((1.0, 1.01))
    with pytest.raises(InputError, match="two evaluations of one gradient are"):
        check_deterministic(lambda: {"a": jnp.full(3, next(values))})


def test_rounding_is_allowed() -> None:
    values = iter((1.0, 1.0 + 1e-6))
    check_deterministic(lambda: jnp.full(3, next(values)))


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_gradient_that_is_not_finite(value: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        check_deterministic(lambda: jnp.array([1.0, value]))


def _losses(weights: jax.Array, is_training: bool, x: jax.Array, labels: jax.Array) -> jax.Array:
    """A network with batch normalisation in either mode."""
    features = x.reshape(len(x), -1)
    if is_training:
        features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-3)
    return (features @ weights - labels) ** 2


def test_batch_normalisation_in_training_mode_is_refused() -> None:
    weights = jnp.arange(4.0)
    check_independent(_with_mode(False), weights, (), IMAGES, LABELS)
    with pytest.raises(InputError, match="use BatchNorm in inference mode"):
        check_independent(_with_mode(True), weights, (), IMAGES, LABELS)


def _with_mode(is_training: bool) -> object:
    return lambda weights, rest, x, labels: _losses(weights, is_training, x, labels)
