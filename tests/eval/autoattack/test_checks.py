import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.eval.autoattack import checks

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.uniform(size=(8, 2, 2, 1)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 3, 8))
WEIGHTS = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)


def linear(x):
    return x.reshape(len(x), -1) @ WEIGHTS


def test_probabilities_are_noticed():
    logits = np.asarray(linear(IMAGES))
    assert checks.returns_probabilities(logits) is None
    assert "probabilities" in checks.returns_probabilities(np.asarray(jax.nn.softmax(logits)))
    # Between 0 and 1, but not summing to 1.
    assert checks.returns_probabilities(np.full((2, 3), 0.5)) is None


@pytest.mark.parametrize(("noise", "is_noticed"), [(0, False), (1e-6, False), (1e-2, True)])
def test_randomised_networks_are_noticed(noise, is_noticed):
    rng = np.random.default_rng(1)

    def network(x):
        return linear(x) + noise * rng.normal(size=(len(x), 3))

    found = checks.is_randomised(network, IMAGES, LABELS)
    assert (found is not None) == is_noticed
    if is_noticed:
        assert "version 'rand'" in found


def test_zero_gradients_are_counted():
    assert checks.has_zero_gradients(linear, IMAGES, LABELS) is None
    found = checks.has_zero_gradients(lambda x: linear(jnp.round(x)), IMAGES, LABELS)
    assert "8 of 8" in found
    # Confident beyond float32: the cross-entropy's gradient underflows.
    bright = IMAGES.at[3].set(1.0)
    labels = LABELS.at[3].set(0)
    weights = jnp.zeros((4, 3)).at[:, 0].set(100.0)
    found = checks.has_zero_gradients(
        lambda x: jnp.where(x.mean() > 2, 0, x.reshape(8, -1) @ weights), bright, labels
    )
    assert found is not None


def test_masked_gradients():
    broken = {"apgd-ce": np.zeros(1000, bool), "square": np.zeros(1000, bool)}
    broken["square"][:2] = True
    assert checks.masks_gradients(broken) is None
    broken["square"][2] = True
    assert "0.3%" in checks.masks_gradients(broken)
    broken["apgd-ce"][0] = True
    assert checks.masks_gradients(broken) is None
    assert checks.masks_gradients({"square": np.ones(4, bool)}) is None
    assert checks.masks_gradients({"apgd-ce": np.ones(4, bool)}) is None


def test_different_answers_the_second_time():
    assert checks.differs_again(0) is None
    assert checks.differs_again(3).startswith("3 adversarial")
