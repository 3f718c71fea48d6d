import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.batching import PaddedBatch, over_batches, padded_batches, pixels
from rctaf_jax.errors import InputError

GREY = np.arange(256, dtype=np.uint8)


def test_pixels_are_the_nearest_float32() -> None:
    for convert in (pixels, jax.jit(pixels)):
        actual = np.asarray(convert(GREY))
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, GREY.astype(np.float32) / np.float32(255))


def test_pixels_in_float64() -> None:
    with jax.enable_x64(True):
        np.testing.assert_array_equal(pixels(GREY), GREY / 255)
        floats = jnp.array([0.25, 1 / 3])
        assert pixels(floats) is floats


def test_pixels_are_not_looked_up() -> None:
    """A TPU's compiler expects 90 ms for 128 images from a table, 0.05 ms for arithmetic."""
    assert "gather" not in str(jax.make_jaxpr(pixels)(GREY))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_every_example_once_in_batches_of_one_shape(batch_size: int) -> None:
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    batches = list(padded_batches(images, np.arange(5) * 10, batch_size=batch_size))
    assert len(batches) == -(-5 // batch_size)
    assert {batch.images.shape for batch in batches} == {(batch_size, 1, 1, 1)}
    real = [i for b in batches for i in b.position[b.is_real].tolist()]
    assert real == list(range(5))
    for batch in batches:
        np.testing.assert_array_equal(batch.images.ravel(), batch.position)
        np.testing.assert_array_equal(batch.labels, batch.position * 10)
        assert not batch.position[~batch.is_real].any()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_over_batches_equals_the_whole(batch_size: int) -> None:
    images = np.random.default_rng(0).uniform(size=(5, 2, 1, 1)).astype(np.float32)
    labels, traced, seen = np.arange(5), [], []

    @jax.jit
    def double(batch: PaddedBatch) -> dict[str, jax.Array]:
        traced.append(batch_size)
        return {"images": 2 * batch.images, "labels": 2 * batch.labels}

    result = over_batches(
        double,
        images,
        labels,
        batch_size=batch_size,
        progress=lambda done, total: seen.append((done, total)),
    )
    np.testing.assert_array_equal(result["images"], 2 * images)
    np.testing.assert_array_equal(result["labels"], 2 * labels)
    assert len(traced) == 1
    done = [*range(batch_size, 5, batch_size), 5]
    assert seen == [(number, 5) for number in done]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 3)), np.zeros(2, int), r"images of shape \(2, 3, 3\)"),
        (np.zeros((2, 3, 3, 1)), np.zeros(3, int), r"labels of shape \(3,\)"),
        (np.zeros((0, 3, 3, 1)), np.zeros(0, int), "N of at least 1"),
        (np.zeros((1, 3, 3, 1)), np.zeros(1), "labels of type float64: expected integers"),
        (np.zeros((1, 3, 3, 1), int), np.zeros(1, int), "images of type int64: expected uint8"),
        (np.full((1, 3, 3, 1), 255.0), np.zeros(1, int), "pixels from 255.0 to 255.0"),
        (np.full((1, 3, 3, 1), np.nan), np.zeros(1, int), "pixels from nan"),
    ],
)
def test_bad_examples(images: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        padded_batches(images, labels, batch_size=2)


def test_bad_batch_size() -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        padded_batches(np.zeros((1, 1, 1, 1)), np.zeros(1, int), batch_size=0)
