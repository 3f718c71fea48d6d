"""Folders of pictures: one for each class."""

import numpy as np
import pytest
from PIL import Image

from rctaf_jax.cli import main
from rctaf_jax.data import load
from rctaf_jax.errors import InputError

RNG = np.random.default_rng(0)


def fill(folder, classes=("cat", "dog"), number=5, size=(6, 4), mode="RGB", suffix=".png"):
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
            pixels = RNG.integers(0, 256, shape, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}{suffix}")
    return folder


def test_two_splits(tmp_path):
    fill(tmp_path / "pets" / "train")
    fill(tmp_path / "pets" / "val", number=2)
    (tmp_path / "pets" / "train" / ".hidden").mkdir()
    (tmp_path / "pets" / "train" / "cat" / "notes.txt").write_text("none")
    dataset = load(tmp_path / "pets")
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.images.shape == (10, 4, 6, 3)
    assert dataset.train.labels.tolist() == [0] * 5 + [1] * 5
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]
    first = np.asarray(Image.open(tmp_path / "pets" / "train" / "cat" / "0.png"))
    np.testing.assert_array_equal(dataset.train.images[0], first)


def test_one_split_is_permuted_and_grey_stays_grey(tmp_path):
    dataset = load(fill(tmp_path / "pets", mode="L", suffix=".PNG"))
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (8, 2)
    assert dataset.image_shape == (4, 6, 1)
    again = load(tmp_path / "pets")
    assert dataset.content_hash == again.content_hash


def test_grey_among_colours_is_colour(tmp_path):
    fill(tmp_path, classes=("a",))
    assert load(fill(tmp_path, classes=("b",), mode="L")).image_shape == (4, 6, 3)


def test_resized(tmp_path):
    fill(tmp_path, classes=("a",), size=(9, 7))
    fill(tmp_path, classes=("b",), size=(20, 30))
    with pytest.raises(InputError, match=r"20x30 pixels, others 9x7: give an image size"):
        load(tmp_path)
    dataset = load(tmp_path, image_size=8)
    assert dataset.image_shape == (8, 8, 3)
    picture = Image.open(tmp_path / "b" / "0.png").resize((8, 8), Image.Resampling.LANCZOS)
    assert bytes(np.asarray(picture)) in set(
        map(bytes, [*dataset.train.images, *dataset.test.images])
    )
    assert "resized to 8" in dataset.source


def test_what_is_no_folder_of_pictures(tmp_path):
    fill(tmp_path / "a" / "train")
    with pytest.raises(InputError, match="train/ alone"):
        load(tmp_path / "a")
    fill(tmp_path / "a" / "test", classes=("cat", "bird"))
    with pytest.raises(InputError, match=r"has the class bird, of which .*train has no picture"):
        load(tmp_path / "a")
    (fill(tmp_path / "c") / "empty").mkdir()
    with pytest.raises(InputError, match=r"c/empty has no picture \(\.png"):
        load(tmp_path / "c")
    fill(tmp_path / "b")
    (tmp_path / "b" / "cat" / "x.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"x\.png cannot be read as a picture"):
        load(tmp_path / "b")


def test_the_command_says_what_is_in_it(tmp_path, capsys):
    assert main(["data", str(fill(tmp_path / "pets"))]) == 0
    output = capsys.readouterr().out
    assert "cat" in output
    assert "pets" in output
