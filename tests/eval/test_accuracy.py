import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest

from rctaf_jax.errors import InputError
from rctaf_jax.eval import make_clean_evaluation, wilson_interval


def test_wilson_by_hand() -> None:
    """1 of 2 at z = 1: centre 1/2, half width sqrt(1/8 + 1/16) / (3/2) = 1 / sqrt(12)."""
    interval = wilson_interval(1, 2, confidence=0.682689492137086)
    assert interval.low == pytest.approx(0.5 - 12**-0.5, abs=1e-12)
    assert interval.high == pytest.approx(0.5 + 12**-0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("successes", "total"), [(0, 1), (1, 1), (0, 100), (100, 100), (53, 10000), (7, 9), (1, 3)]
)
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_equals_scipy(successes: int, total: int, confidence: float) -> None:
    test = binomtest(successes, total)
    known = test.proportion_ci(confidence, method="wilson")
    actual = wilson_interval(successes, total, confidence)
    np.testing.assert_allclose(actual, (known.low, known.high), atol=1e-12)
    assert 0 <= actual.low <= successes / total <= actual.high <= 1


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_bad_counts(successes: int, total: int) -> None:
    with pytest.raises(InputError, match=f"got {successes} successes of {total}"):
        wilson_interval(successes, total)


@pytest.mark.parametrize("confidence", [0.0, 1.0, float("nan")])
def test_wilson_bad_confidence(confidence: float) -> None:
    with pytest.raises(InputError, match="confidence must be between 0 and 1"):
        wilson_interval(1, 2, confidence)


@pytest.fixture
def examples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (11, 2, 2, 1), np.uint8), rng.integers(0, 3, 11)


def _linear(variables: jax.Array, images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1) @ variables


@pytest.mark.parametrize("batch_size", [1, 4, 11, 16])
def test_clean_evaluation_equals_numpy(
    batch_size: int, examples: tuple[np.ndarray, np.ndarray]
) -> None:
    images, labels = examples
    traced = []

    def logits_fn(variables: jax.Array, x: jax.Array) -> jax.Array:
        traced.append(batch_size)
        return _linear(variables, x)

    evaluate = make_clean_evaluation(logits_fn, batch_size=batch_size)
    for seed in range(3):
        weights = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
        expected = (images.reshape(11, 4) / 255 @ weights).argmax(axis=1) == labels
        result = evaluate(weights, images, labels)
        assert result.correct.tolist() == expected.tolist()
        assert not result.nonfinite.any()
        floats = evaluate(weights, (images / 255).astype(np.float32), labels)
        assert floats.correct.tolist() == expected.tolist()
    assert len(traced) == 2  # uint8 and floating point; never again for other weights


def test_nan_is_neither_correct_nor_hidden(examples: tuple[np.ndarray, np.ndarray]) -> None:
    images, _ = examples

    def logits_fn(variables: float, x: jax.Array) -> jax.Array:
        total = x.sum(axis=(1, 2, 3))
        return jnp.stack([jnp.where(total > variables, jnp.nan, 1.0), jnp.zeros_like(total)], 1)

    evaluate = make_clean_evaluation(logits_fn, batch_size=4)
    result = evaluate(2.0, images, np.zeros(11, int))
    is_bright = images.sum(axis=(1, 2, 3)) / 255 > 2
    assert 0 < is_bright.sum() < 11
    np.testing.assert_array_equal(result.nonfinite, is_bright)
    np.testing.assert_array_equal(result.correct, ~is_bright)


def test_bad_images_are_refused() -> None:
    evaluate = make_clean_evaluation(_linear, batch_size=2)
    with pytest.raises(InputError, match=r"floating-point images are in \[0, 1\]"):
        evaluate(jnp.ones((4, 3)), np.full((2, 2, 2, 1), 255.0), np.zeros(2, int))
