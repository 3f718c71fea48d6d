"""Training images held out to validate on, and what makes a part of a split balanced."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from rctaf_jax.errors import InputError

from .dataset import Dataset, Split


class HeldOut(NamedTuple):
    """A dataset in two.

    Attributes:
        dataset: without the images held out; the test split is as it was.
        validation: the images held out.
    """

    dataset: Dataset
    validation: Split


def hold_out(dataset: Dataset, size: int) -> HeldOut:
    """Holds out some training images, the classes as balanced as the data allow.

    By a permutation that never changes, in which every class gives its first example, then every
    class its second, and so on; all images stay in their order. No seed has a part in it, and a
    smaller choice lies within every larger one.

    Args:
        dataset: what to choose from.
        size: how many images, at least one of each class.

    Raises:
        InputError: if there are not so many, or a class would have none here or there.

    Example:
        >>> from rctaf_jax.data import load
        >>> kept, validation = hold_out(load("digits"), 100)
        >>> kept.name, len(kept.train.labels), np.bincount(validation.labels).tolist()
        ('digits[validation=100]', 1337, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    """
    images, labels = dataset.train
    available, classes = len(labels), np.unique(labels)
    if not len(classes) <= size < available:
        raise InputError(
            f"validation {size} of the {available} training images of {dataset.name}: it must be "
            f"at least {len(classes)}, one image of each class, and leave some to train on."
        )
    # RandomState, not default_rng: NumPy promises never to change its stream.
    order = np.random.RandomState(0).permutation(available)
    chosen = np.zeros(available, bool)
    chosen[order[first_of_each_class(labels[order], size)]] = True
    emptied = np.setdiff1d(classes, labels[~chosen])
    if len(emptied):
        raise InputError(
            f"validation {size} would take all training images of class "
            f"{dataset.class_names[emptied[0]]!r} of {dataset.name}: give a smaller one."
        )
    kept = dataclasses.replace(
        dataset,
        name=f"{dataset.name}[validation={size}]",
        train=Split(images[~chosen], labels[~chosen]),
        index_order=f"{dataset.index_order}; without those held out for validation",
    )
    return HeldOut(kept, Split(images[chosen], labels[chosen]))


def first_of_each_class(labels: Int[np.ndarray, "N"], size: int) -> Int[np.ndarray, "size"]:
    """Places of `size` examples, in order: each class's first, then each class's second, ...

    >>> first_of_each_class(np.array([0, 0, 0, 1, 1]), 3).tolist()
    [0, 1, 3]
    """
    by_label = np.argsort(labels, kind="stable")
    _, start, count = np.unique(labels[by_label], return_index=True, return_counts=True)
    rank = np.empty(len(labels), np.int64)  # how many of the same class come before
    rank[by_label] = np.arange(len(labels)) - np.repeat(start, count)
    places: Int[np.ndarray, size] = np.sort(np.lexsort((labels, rank))[:size])
    return places
