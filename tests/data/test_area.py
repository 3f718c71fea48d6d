from pathlib import Path

import numpy as np
import pytest

from rctaf_jax.cli import main
from rctaf_jax.data import Dataset, from_arrays, load
from rctaf_jax.data.area import area_averaged
from rctaf_jax.errors import InputError


def dataset_of(images: np.ndarray) -> Dataset:
    labels = np.arange(len(images)) % 2
    return from_arrays(images, labels, images[::-1], labels[::-1], name="mine", source="a test")


@pytest.mark.parametrize(("side", "small"), [(32, 16), (28, 14), (28, 7), (15, 5), (6, 1), (4, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_means_of_blocks(side: int, small: int, channels: int) -> None:
    images = np.random.default_rng(side + small).integers(0, 256, (6, side, side, channels))
    made = area_averaged(dataset_of(images.astype(np.uint8)), small)
    block = side // small
    for index in np.ndindex(6, small, small, channels):
        n, row, column, channel = index
        rows = slice(row * block, (row + 1) * block)
        columns = slice(column * block, (column + 1) * block)
        mean = float(np.mean(images[n, rows, columns, channel], dtype=np.float64))
        assert made.train.images[index] == np.floor(mean + 0.5)
    assert made.train.images.dtype == np.uint8
    assert np.array_equal(made.test.images, made.train.images[::-1])


def test_halves_are_rounded_upwards_and_white_stays_white() -> None:
    images = np.array([[[0, 1], [0, 1]], [[1, 2], [1, 2]], [[255] * 2] * 2, [[0] * 2] * 2])
    made = area_averaged(dataset_of(images.astype(np.uint8)), 1)
    assert made.train.images.ravel().tolist() == [1, 2, 255, 0]


def test_name_source_and_hash_say_so() -> None:
    digits = load("digits")
    small = load("digits", image_size=4)
    assert small.name == "digits[size=4]"
    assert small.source.startswith(digits.source)
    assert small.source.endswith("averaged over blocks of 2x2 pixels to 4x4")
    assert small.index_order == digits.index_order
    assert small.content_hash != digits.content_hash
    assert np.array_equal(small.train.labels, digits.train.labels)
    same = load("digits", image_size=8)
    assert (same.name, same.content_hash) == ("digits", digits.content_hash)


@pytest.mark.parametrize("size", [0, -2, 3, 16])
def test_sides_that_do_not_divide(size: int) -> None:
    with pytest.raises(InputError, match=r"8x8 pixels of digits to a side of .* of 1, 2, 4, 8$"):
        load("digits", image_size=size)


def test_images_that_are_not_square(tmp_path: Path) -> None:
    images, labels = np.zeros((10, 4, 6), np.uint8), np.arange(10) % 2
    np.savez(tmp_path / "wide.npz", images=images, labels=labels)
    with pytest.raises(InputError, match="wide has images of 4x6 pixels: expected square ones"):
        load(tmp_path / "wide.npz", image_size=2)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "digits-797", "--image-size", "4"]) == 0
    assert "digits-797[size=4]" in capsys.readouterr().out
    assert main(["data", "digits", "--image-size", "5"]) == 2
    assert "expected one of 1, 2, 4, 8" in capsys.readouterr().err
