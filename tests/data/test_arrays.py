"""Arrays and examples as people have them, and the mistakes that they make first."""

import numpy as np
import pytest

from rctaf_jax.data import from_arrays, from_examples, load
from rctaf_jax.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 5, 4, 3), np.uint8)
LABELS = np.arange(12) % 3


def made(**changes):
    arguments = {
        "train_images": IMAGES,
        "train_labels": LABELS,
        "test_images": IMAGES[:6],
        "test_labels": LABELS[:6],
    } | changes
    parts = ("train_images", "train_labels", "test_images", "test_labels")
    positional = [arguments.pop(part) for part in parts]
    return from_arrays(*positional, **arguments)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_0_1_are_grey_levels_again(dtype):
    dataset = made(train_images=(IMAGES / 255).astype(dtype))
    np.testing.assert_array_equal(dataset.train.images, IMAGES)
    np.testing.assert_array_equal(dataset.test.images, IMAGES[:6])
    assert ("rounded" in dataset.source) == (dtype == np.float16)


def test_floats_between_grey_levels_say_so():
    dataset = made(train_images=np.full((12, 5, 4, 3), 0.3))
    assert (dataset.train.images == 76).all()
    assert dataset.source.endswith("pixels rounded to 255 levels")


def test_labels_in_a_column_and_lists():
    dataset = made(train_labels=LABELS[:, None].tolist(), train_images=IMAGES.tolist() and IMAGES)
    np.testing.assert_array_equal(dataset.train.labels, LABELS)
    assert dataset.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": IMAGES.repeat(2, 2).transpose(0, 3, 1, 2)},
            r"PyTorch's \[N, C, H, W\]: transpose\(0, 2",
        ),
        ({"train_images": IMAGES * 1.0}, "from 0 to 255: expected 0 to 1: divide by 255"),
        ({"train_images": IMAGES / 127.5 - 1}, "expected 0 to 1: undo the normalisation"),
        ({"train_images": IMAGES * np.nan}, "expected 0 to 1"),
        ({"train_images": IMAGES * 3.0}, "expected 0 to 1$"),
        ({"train_images": IMAGES.astype(int)}, "images of type int64: expected uint8"),
        ({"train_labels": LABELS + 1, "test_labels": LABELS[:6] + 1}, "do they begin at 1"),
        ({"train_labels": np.where(LABELS == 2, 255, LABELS)}, "is 255 for what has no label"),
        ({"test_labels": np.full(6, 3)}, "no training image of class 3: give class_names"),
        ({"train_labels": np.where(LABELS == 1, 0, LABELS)}, "no training image of class 1"),
        ({"train_labels": np.eye(12, dtype=int)}, r"shape \(12, 12\): expected integers of shape"),
        ({"train_labels": LABELS / 2}, "labels of type float64"),
        ({"train_labels": LABELS - 1}, "labels from -1 to 1"),
        ({"train_labels": LABELS[:5]}, "12 images and 5 labels"),
        ({"train_labels": LABELS * 10**6}, "a label 2000000 and no class_names"),
        ({"class_names": ("a", "a", "b")}, "a class name twice"),
        ({"class_names": ("a", "b")}, "labels from 0 to 2: expected 0 to 1"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        made(**changes)


def test_stated_classes_may_lack_examples():
    dataset = made(test_labels=np.full(6, 3), class_names="abcde")
    assert dataset.num_classes == 5


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_files_of_others(tmp_path, keys):
    """Keras' keys, and MedMNIST's, whose labels are a column and who have a third split."""
    column = LABELS[:, None]
    arrays = dict(zip(keys, (IMAGES, column, IMAGES[:6], column[:6]), strict=True))
    np.savez(tmp_path / "theirs.npz", **arrays, val_images=IMAGES[:2], val_labels=column[:2])
    dataset = load(tmp_path / "theirs.npz")
    np.testing.assert_array_equal(dataset.test.labels, LABELS[:6])
    np.testing.assert_array_equal(dataset.train.images, IMAGES)


def test_x_and_y(tmp_path):
    np.savez(tmp_path / "theirs.npz", x=IMAGES / 255, y=LABELS)
    dataset = load(tmp_path / "theirs.npz")
    assert (len(dataset.train.labels), len(dataset.test.labels)) == (10, 2)
    assert set(map(bytes, dataset.train.images)) <= set(map(bytes, IMAGES))


class TorchLike:
    """As PyTorch's datasets give examples: a tensor, the channels first, in [0, 1]."""

    class Tensor:
        def __init__(self, array):
            self.array = array

        def detach(self):
            return self

        def cpu(self):
            return self

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.array, dtype)

    def __len__(self):
        return 12

    def __getitem__(self, index):
        pixels = (IMAGES[index] / 255).astype(np.float32).transpose(2, 0, 1)
        return self.Tensor(pixels), np.int64(LABELS[index])


def test_pytorchs_and_hugging_faces_examples():
    from PIL import Image

    faces = [
        {"img": Image.fromarray(image), "fine_label": int(label), "coarse_label": 9}
        for image, label in zip(IMAGES, LABELS, strict=True)
    ]
    for examples in (TorchLike(), faces, list(zip(IMAGES, LABELS, strict=True))):
        dataset = from_examples(examples, examples)
        np.testing.assert_array_equal(dataset.train.images, IMAGES)
        np.testing.assert_array_equal(dataset.test.labels, LABELS)
    assert len(from_examples(faces).test.labels) == 2


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "is empty"),
        ([(IMAGES[0], 0), (IMAGES[1][:2], 0)], r"shape \(5, 4, 3\) and, at 1, \(2, 4, 3\)"),
        ([{"picture": IMAGES[0], "label": 1}], "it has the keys picture, label"),
        ([IMAGES[0]], "it has no such pair"),
        ([(IMAGES[0], "cat")], "a label of type str"),
    ],
)
def test_examples_that_are_none(examples, message):
    with pytest.raises(InputError, match=message):
        from_examples(examples, examples)
