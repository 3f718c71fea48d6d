"""Training images held out."""

import numpy as np
import pytest

from rctaf_jax.data import Dataset, Split, hold_out, load, subset
from rctaf_jax.data.dataset import checked
from rctaf_jax.errors import InputError


def labelled(counts: list[int], seed: int = 0) -> Dataset:
    """So many training images of each class, in any order, each image with its own pixels."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(seed).permutation(labels)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    split = Split(images, labels)
    names = tuple(f"class {number}" for number in range(len(counts)))
    return checked("mine", split, split, names, "made for a test")


@pytest.mark.parametrize("seed", range(5))
def test_each_image_is_on_one_side_in_its_order(seed):
    dataset = labelled([9, 20, 5, 30], seed)
    kept, held = hold_out(dataset, 13)
    assert len(held.labels) == 13
    for part in (kept.train, held):
        places = part.images.ravel()
        assert (np.diff(places.astype(int)) > 0).all()
        np.testing.assert_array_equal(part.labels, dataset.train.labels[places])
    both = np.concatenate([kept.train.images, held.images]).ravel()
    assert sorted(both) == sorted(dataset.train.images.ravel())
    counts = np.bincount(held.labels)
    assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(kept.test.images, dataset.test.images)


def test_a_larger_choice_holds_a_smaller():
    dataset = labelled([4, 40, 40])
    counts = np.bincount(hold_out(dataset, 7).validation.labels)
    assert sorted(counts.tolist()) == [2, 2, 3]
    small, large = (set(hold_out(dataset, size)[1].images.ravel()) for size in (4, 6))
    assert small < large


def test_the_choice_is_the_permutations_first():
    """Each digit's first image in it."""
    held = hold_out(load("digits"), 10).validation
    train = load("digits").train
    order = np.random.RandomState(0).permutation(len(train.labels))
    first = [next(place for place in order if train.labels[place] == c) for c in range(10)]
    np.testing.assert_array_equal(held.images, train.images[np.sort(first)])


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        ([4, 4], 8, "validation 8 of the 8 training images of mine: it must be at least 2"),
        ([4, 4], 9, "validation 9 of the 8"),
        ([4, 4], 1, "validation 1 of the 8"),
        ([1, 9], 2, "take all training images of class 'class 0' of mine"),
        ([2, 9], 4, "take all training images of class 'class 0' of mine"),
    ],
)
def test_what_cannot_be_held_out_is_a_sentence(counts, size, message):
    with pytest.raises(InputError, match=message):
        hold_out(labelled(counts), size)


def test_a_part_without_some_classes_is_held_out_of_too():
    few = subset(load("digits"), 5, None)
    doubled = Split(np.repeat(few.train.images, 3, 0), np.repeat(few.train.labels, 3))
    dataset = checked("few", doubled, few.test, few.class_names, "made for a test")
    assert np.bincount(hold_out(dataset, 5).validation.labels).tolist() == [1] * 5
