"""Datasets from `.npz` files: the digits that ship with the package, and a user's own arrays."""

from importlib import resources
from pathlib import Path
from typing import IO

import numpy as np

from rctaf_jax.array_file import Arrays, parse_arrays
from rctaf_jax.errors import InputError

from .arrays import from_arrays, numbered
from .dataset import STORED_ORDER, Dataset, Split, checked
from .splits import PERMUTED_ORDER, balanced, permuted

_SPLIT_KEYS = (
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST's, too
    ("x_train", "y_train", "x_test", "y_test"),  # as Keras has them
)
_WHOLE_KEYS = (("images", "labels"), ("x", "y"))
_DIGITS_SOURCE = (
    "UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), CC BY 4.0: 8x8 "
    "counts 0..16, scaled to round(255 v / 16)"
)


def read_digits() -> Dataset:
    """The 1,797 digits in the package: 8x8x1, 1,437 to train on and 360 (36 a class) to test."""
    train, test = _digits()
    return checked("digits", train, test, tuple("0123456789"), _DIGITS_SOURCE)


def read_digits_797() -> Dataset:
    """The same digits, 1,000 to train on (100 a class) and 797 (74 to 83 a class) to test."""
    whole = Split(*(np.concatenate(parts) for parts in zip(*_digits(), strict=True)))
    train, test, index_order = balanced(whole, 100)
    names = tuple("0123456789")
    return checked("digits-797", train, test, names, _DIGITS_SOURCE, f"digits, {index_order}")


def _digits() -> tuple[Split, Split]:
    with (resources.files(__package__) / "digits.npz").open("rb") as file:
        stored = _read_arrays(file, "the package's digits.npz")
    train_images, train_labels, test_images, test_labels = (stored[key] for key in _SPLIT_KEYS[0])
    return Split(_scaled(train_images), train_labels), Split(_scaled(test_images), test_labels)


def read_npz(path: Path) -> Dataset:
    """Reads a user's file.

    Args:
        path: holds images and labels, as for `from_arrays`, under `train_images`, `train_labels`,
            `test_images` and `test_labels` (or `x_train`, `y_train`, `x_test`, `y_test`), or under
            `images` and `labels` (or `x` and `y`); `class_names` is optional.

    Raises:
        InputError: if the file cannot be read, lacks a key, or holds what `from_arrays` refuses.
    """
    try:
        with path.open("rb") as file:
            stored = _read_arrays(file, str(path))
    except OSError as error:
        raise InputError(
            f"cannot open {path} ({error.strerror or error}): expected a readable .npz file"
        ) from error
    names = _class_names(path, stored)
    for keys in _SPLIT_KEYS:
        if all(key in stored for key in keys):
            parts, index_order = [stored[key] for key in keys], STORED_ORDER
            break
    else:
        whole = next((keys for keys in _WHOLE_KEYS if all(key in stored for key in keys)), None)
        if whole is None:
            raise InputError(
                f"{path} has the keys {', '.join(sorted(stored)) or '(none)'}: expected "
                f"{', '.join(_SPLIT_KEYS[0])}, or {' and '.join(_WHOLE_KEYS[0])}"
            )
        images, labels = (stored[key] for key in whole)
        train, test = permuted(str(path), images, labels)
        parts, index_order = [*train, *test], PERMUTED_ORDER
        flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        names = names or numbered(path.stem, flat, flat)
    return from_arrays(
        *parts,
        class_names=names,
        name=path.stem,
        source=f"the user's file {path.name}",
        index_order=index_order,
    )


def _read_arrays(file: IO[bytes], where: str) -> Arrays:
    try:
        return parse_arrays(file)
    except ValueError as error:
        raise InputError(
            f"cannot read {where} ({error}): expected an intact .npz file without pickled objects"
        ) from None


def _class_names(path: Path, stored: Arrays) -> tuple[str, ...] | None:
    names = stored.get("class_names")
    if names is None:
        return None
    if names.ndim != 1 or names.dtype.kind != "U" or names.size == 0:
        raise InputError(
            f"{path} has class_names of type {names.dtype} and shape {names.shape}: expected "
            "one string for each class"
        )
    return tuple(map(str, names))


def _scaled(counts: np.ndarray) -> np.ndarray:
    return ((counts.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
