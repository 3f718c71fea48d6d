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


def zero_gradients(network):
    is_zero = checks.make_zero_gradients(lambda variables, x, keys: network(x))
    return checks.has_zero_gradients(is_zero((), IMAGES, LABELS, jnp.zeros(8)))


def test_zero_gradients_are_counted():
    assert zero_gradients(linear) is None
    assert "8 of 8" in zero_gradients(lambda x: linear(jnp.round(x)))
    # Confidence beyond float32 is no lack of a gradient.
    assert zero_gradients(lambda x: 1e6 * linear(x)) is None


def test_one_odd_row_hides_nothing():
    """A NaN or an infinity in one image's logits says nothing of the others'."""
    odd = np.asarray(jax.nn.softmax(linear(IMAGES))).copy()
    odd[2] = [np.nan, 0, 1]
    odd[5] = [-np.inf, 0, 1]
    assert "probabilities" in checks.returns_probabilities(odd)
    rng = np.random.default_rng(1)

    def network(x, noise=1e-2):
        return np.where(np.isnan(odd), np.nan, linear(x) + noise * rng.normal(size=(8, 3)))

    found = checks.is_randomised(network, IMAGES, LABELS)
    assert "randomised" in found
    assert "nan" not in found
    assert checks.is_randomised(lambda x: network(x, 0), IMAGES, LABELS) is None
    nowhere = np.full((3, 4), np.nan)
    assert checks.returns_probabilities(nowhere) is None
    assert checks.is_randomised(lambda x: nowhere, IMAGES[:3], LABELS[:3]) is None
    assert checks.masks_classes(nowhere) is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_probabilities_of_any_precision(dtype):
    """Rounded in 16 bits, they do not sum to 1 within 1e-5."""
    logits = 3 * jnp.asarray(RNG.normal(size=(20, 10)), dtype)
    rows = np.asarray(jax.nn.softmax(logits).astype(jnp.float32))
    precision = float(jnp.finfo(dtype).eps)
    assert "probabilities" in checks.returns_probabilities(rows, precision)
    assert checks.returns_probabilities(np.asarray(logits, np.float32), precision) is None


def test_masks_and_radii_and_missing_answers():
    logits = np.asarray(linear(IMAGES)).copy()
    assert checks.masks_classes(logits) is None
    logits[:, 1] = np.finfo(np.float32).min
    assert "of 8 images reach 3.4e+38" in checks.masks_classes(logits)
    assert checks.is_huge_radius("Linf", 0.5) is None
    assert checks.is_huge_radius("L2", 8) is None
    assert "8/255 may be meant" in checks.is_huge_radius("Linf", 8)
    assert checks.has_no_answers(0, 4) is None
    assert "2 of 4 images are not finite" in checks.has_no_answers(2, 4)


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
