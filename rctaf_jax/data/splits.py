"""One set of images as two splits, by permutations that never change."""

import numpy as np

from rctaf_jax.errors import InputError

from .dataset import Split

PERMUTED_ORDER = "permuted by NumPy's RandomState(0), the first fifth being the test split"


def permuted(
    name: str, images: np.ndarray, labels: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A training and a test split of one, by a permutation that never changes.

    Raises:
      InputError: if there are not as many labels as images, or fewer than two.
    """
    if images.ndim == 0 or images.shape[:1] != labels.shape[:1] or len(images) < 2:
        raise InputError(
            f"{name} has images of shape {images.shape} and labels of shape {labels.shape}: "
            "expected as many labels as images, at least two of each"
        )
    order = _order(len(labels))
    num_test = max(1, len(labels) // 5)
    test, train = order[:num_test], order[num_test:]
    return (images[train], labels[train]), (images[test], labels[test])


def balanced(whole: Split, num_each: int) -> tuple[Split, Split, str]:
    """The first `num_each` images of every class to train on, in permuted order; others to test.

    Args:
      whole: all images, at least `num_each` + 1 of every class.
      num_each: training images of a class.

    Returns:
      The training split, the test split, and a phrase that says how they are ordered.

    Example:
      >>> whole = Split(np.zeros((9, 1, 1, 1), np.uint8), np.arange(9) % 3)
      >>> train, test, _ = balanced(whole, 2)
      >>> sorted(train.labels.tolist()), sorted(test.labels.tolist())
      ([0, 0, 1, 1, 2, 2], [0, 1, 2])
    """
    order = _order(len(whole.labels))
    labels = whole.labels[order]
    is_train = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        is_train[np.flatnonzero(labels == label)[:num_each]] = True
    train, test = (
        Split(whole.images[part], whole.labels[part])
        for part in (order[is_train], order[~is_train])
    )
    phrase = f"the first {num_each} of each class being the training split"
    return train, test, f"permuted by NumPy's RandomState(0), {phrase}"


def _order(size: int) -> np.ndarray:
    # RandomState, not default_rng: NumPy promises never to change its stream.
    return np.random.RandomState(0).permutation(size)
