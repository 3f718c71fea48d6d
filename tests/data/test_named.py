import json
from pathlib import Path

import numpy as np
import pytest

from rctaf_jax.data import NAMES, Split, load, subset
from rctaf_jax.data.dataset import content_hash
from rctaf_jax.errors import InputError

DIGITS_HASH = "f2a87d08035872d3ecd80b698accf083045a884eec0f3f7c7192593634a21a58"

DIGITS_797_HASH = "408af2a2ebb067fa17be7aa99ee0e0c3642d611dc620f9a824870f8343353582"


def test_digits_shapes_types_and_balance() -> None:
    digits = load("digits")
    assert (digits.name, digits.num_classes, digits.image_shape) == ("digits", 10, (8, 8, 1))
    assert len(digits.train.labels) == 1437
    assert np.bincount(digits.test.labels).tolist() == [36] * 10
    assert np.ptp(np.bincount(digits.train.labels)) <= 9
    for split in (digits.train, digits.test):
        assert split.images.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert split.images.flags.c_contiguous
        assert split.labels.flags.c_contiguous


def test_digits_values_are_scaled_counts() -> None:
    images = load("digits").train.images
    assert np.array_equal(np.unique(images), [round(255 * v / 16) for v in range(17)])
    # The first row of the first image of the original file, counts 0 0 5 13 9 1 0 0.
    assert images[0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert load("digits").train.labels[0] == 0


def test_digits_splits_do_not_overlap() -> None:
    digits = load("digits")
    rows = [set(map(bytes, split.images)) for split in (digits.train, digits.test)]
    assert not rows[0] & rows[1]


def test_digits_never_change() -> None:
    assert load("digits").content_hash == DIGITS_HASH


def test_digits_797_are_the_same_images_in_another_split() -> None:
    digits, more = load("digits"), load("digits-797")
    assert (more.name, more.image_shape, more.class_names) == (
        "digits-797",
        (8, 8, 1),
        digits.class_names,
    )
    assert np.bincount(more.train.labels).tolist() == [100] * 10
    assert len(more.test.labels) == 797
    assert np.bincount(more.test.labels).min() == 74
    pairs = [
        sorted(
            (bytes(image), int(label)) for split in d for image, label in zip(*split, strict=True)
        )
        for d in ((digits.train, digits.test), (more.train, more.test))
    ]
    assert pairs[0] == pairs[1]
    assert more.content_hash == DIGITS_797_HASH
    assert more.source == digits.source
    assert "the first 100 of each class being the training split" in more.index_order


def test_provenance_survives_json() -> None:
    digits = load("digits")
    record = json.loads(json.dumps(digits.provenance()))
    assert record == digits.provenance()
    assert record["content_hash"] == DIGITS_HASH
    assert (record["num_train"], record["num_test"]) == (1437, 360)
    assert record["image_shape"] == [8, 8, 1]
    assert "CC BY 4.0" in record["source"]
    assert record["index_order"] == "as stored"


def test_hash_depends_on_pixels_labels_order_and_split() -> None:
    train, test = load("digits").train, load("digits").test
    brighter = train.images.copy()
    brighter[0, 0, 0, 0] += 1
    others = [
        (train._replace(images=brighter), test),
        (train._replace(labels=np.roll(train.labels, 1)), test),
        (Split(train.images[::-1], train.labels[::-1]), test),
        (train._replace(images=train.images.reshape(-1, 4, 16, 1)), test),
        (test, train),
    ]
    hashes = {content_hash(*pair) for pair in [*others, (train, test)]}
    assert len(hashes) == 6


@pytest.mark.parametrize("name", ["", "mnist", "Digits", "no/such/folder", "digits.csv"])
def test_unknown_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load(name)
    message = str(caught.value)
    assert message.startswith(f"unknown dataset {name!r}: expected ")
    assert all(known in message for known in NAMES)


def test_subset_takes_the_first_of_each_class() -> None:
    digits = load("digits")
    small = subset(digits, 104, 33)
    assert small.name == "digits[train=104,test=33]"
    assert np.bincount(small.train.labels).tolist() == [11] * 4 + [10] * 6
    assert np.bincount(small.test.labels).tolist() == [4] * 3 + [3] * 7
    for label in range(10):
        mine, whole = (s.train.images[s.train.labels == label] for s in (small, digits))
        assert np.array_equal(mine, whole[: len(mine)])
    assert small.content_hash == content_hash(small.train, small.test) != digits.content_hash
    assert small.provenance()["index_order"] == "as stored; the first of each class"


def test_subset_keeps_stored_order_and_nests() -> None:
    digits = load("digits")
    whole = list(map(bytes, digits.train.images))
    previous: set[bytes] = set()
    for size in (1, 7, 50, 333, 1437):
        images = list(map(bytes, subset(digits, size, None).train.images))
        places = [whole.index(image) for image in images]
        assert places == sorted(places)
        assert previous <= set(images)
        previous = set(images)


def test_subset_of_unbalanced_classes_uses_what_there_is(tmp_path: Path) -> None:
    labels = np.array([0] * 9 + [2] + [1] * 2)
    images = np.zeros((12, 2, 2), np.uint8)
    path = tmp_path / "mine.npz"
    content = {"train_images": images, "train_labels": labels}
    np.savez(path, **content, test_images=images, test_labels=labels)
    small = subset(load(path), 8, None)
    assert small.train.labels.tolist() == [0, 0, 0, 0, 0, 2, 1, 1]
    assert small.name == "mine[train=8]"


def test_subset_of_nothing_in_particular_is_the_dataset() -> None:
    digits = load("digits")
    assert subset(digits, None, None) is digits
    assert subset(digits, None, np.int64(5)).train.images is digits.train.images


@pytest.mark.parametrize("size", [0, -1, 361, 1.0, True, "5"])
def test_subset_of_impossible_size(size: int) -> None:
    with pytest.raises(InputError, match="of the 360 test images: expected an integer from 1 to"):
        subset(load("digits"), None, size)
