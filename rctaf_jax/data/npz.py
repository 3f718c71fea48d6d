"""Datasets from `.npz` files: the digits that ship with the package, and a user's own arrays."""

from importlib import resources
from pathlib import Path
from typing import IO

import numpy as np

from rctaf_jax.array_file import Arrays, parse_arrays
from rctaf_jax.errors import InputError

from .dataset import STORED_ORDER, Dataset, Split, checked

_SPLIT_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
_WHOLE_KEYS = ("images", "labels")
_PERMUTED_ORDER = "permuted by NumPy's RandomState(0), the first fifth being the test split"
_DIGITS_SOURCE = (
    "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), CC BY 4.0: 8x8 "
    "counts 0..16, scaled to round(255 v / 16)"
)
# More would be labels read by mistake (pixel values, identifiers) rather than classes.
_MAX_CLASSES = 100_000


def read_digits() -> Dataset:
    """The 1,797 digits in the package: 8x8x1, 1,437 to train on and 360 (36 a class) to test."""
    with (resources.files(__package__) / "digits.npz").open("rb") as file:
        stored = _read_arrays(file, "the package's digits.npz")
    train, test = _splits(stored)
    return checked(
        "digits",
        train._replace(images=_scaled(train.images)),
        test._replace(images=_scaled(test.images)),
        tuple("0123456789"),
        _DIGITS_SOURCE,
    )


def read_npz(path: Path) -> Dataset:
    """Reads a user's file.

    Args:
        path: holds uint8 images [N, H, W] or [N, H, W, C] and integer labels [N] under
            `train_images`, `train_labels`, `test_images` and `test_labels`, or under `images`
            and `labels`; `class_names` is optional.

    Raises:
        InputError: if the file cannot be read, lacks a key, or holds what `checked` refuses.
    """
    try:
        with path.open("rb") as file:
            stored = _read_arrays(file, str(path))
    except OSError as error:
        raise InputError(
            f"cannot open {path} ({error.strerror or error}): expected a readable .npz file"
        ) from error
    if all(key in stored for key in _SPLIT_KEYS):
        (train, test), index_order = _splits(stored), STORED_ORDER
    elif all(key in stored for key in _WHOLE_KEYS):
        (train, test), index_order = _permuted_splits(path, stored), _PERMUTED_ORDER
    else:
        raise InputError(
            f"{path} has the keys {', '.join(sorted(stored)) or '(none)'}: expected "
            f"{', '.join(_SPLIT_KEYS)}, or {' and '.join(_WHOLE_KEYS)}"
        )
    names = _class_names(path, stored, train, test)
    return checked(path.stem, train, test, names, f"the user's file {path.name}", index_order)


def _read_arrays(file: IO[bytes], where: str) -> Arrays:
    try:
        return parse_arrays(file)
    except ValueError as error:
        raise InputError(
            f"cannot read {where} ({error}): expected an intact .npz file without pickled objects"
        ) from None


def _splits(stored: Arrays) -> tuple[Split, Split]:
    train_images, train_labels, test_images, test_labels = (stored[key] for key in _SPLIT_KEYS)
    return Split(train_images, train_labels), Split(test_images, test_labels)


def _permuted_splits(path: Path, stored: Arrays) -> tuple[Split, Split]:
    images, labels = (stored[key] for key in _WHOLE_KEYS)
    if images.ndim == 0 or images.shape[:1] != labels.shape[:1] or len(images) < 2:
        raise InputError(
            f"{path} has images of shape {images.shape} and labels of shape {labels.shape}: "
            "expected as many labels as images, at least two of each"
        )
    # RandomState, not default_rng: NumPy promises never to change its stream.
    order = np.random.RandomState(0).permutation(len(labels))
    num_test = max(1, len(labels) // 5)
    test, train = order[:num_test], order[num_test:]
    return Split(images[train], labels[train]), Split(images[test], labels[test])


def _class_names(path: Path, stored: Arrays, train: Split, test: Split) -> tuple[str, ...]:
    names = stored.get("class_names")
    if names is not None:
        if names.ndim != 1 or names.dtype.kind != "U" or names.size == 0:
            raise InputError(
                f"{path} has class_names of type {names.dtype} and shape {names.shape}: expected "
                "one string for each class"
            )
        return tuple(map(str, names))
    highest = max((int(s.labels.max()) for s in (train, test) if _is_integer(s.labels)), default=0)
    if highest >= _MAX_CLASSES:
        raise InputError(
            f"{path} has a label {highest} and no class_names: expected labels below {_MAX_CLASSES}"
        )
    return tuple(map(str, range(highest + 1)))


def _is_integer(labels: np.ndarray) -> bool:
    return labels.size > 0 and labels.dtype.kind in "iu"


def _scaled(counts: np.ndarray) -> np.ndarray:
    return ((counts.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
