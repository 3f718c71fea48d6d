"""Datasets from arrays, and from anybody's sequence of examples, as people have them.

Pixels come as uint8 or as floats in [0, 1], labels as [N] or [N, 1] of any integer type; what looks
like a mistake (the channels first, a class without an example) is refused by name.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rctaf_jax.errors import InputError

from .dataset import STORED_ORDER, Dataset, Split, checked
from .splits import PERMUTED_ORDER, permuted

UNNAMED = "arrays"
"""The name of a dataset that was given none."""
MAX_CLASSES = 100_000
"""More would be labels read by mistake (pixel values, identifiers) rather than classes."""
_IMAGE_KEYS, _LABEL_KEYS = ("image", "img", "pixels", "x"), ("label", "fine_label", "labels", "y")


class Examples(Protocol):
    """PyTorch's and Hugging Face's datasets, and lists: numbered examples.

    An example is `(image, label)`, or a dict with "image" (or "img") and "label" (or "fine_label");
    an image is an array, a tensor or a Pillow image, the channels last or (a tensor) first.
    """

    def __len__(self) -> int:
        """Number of examples."""

    def __getitem__(self, index: int, /) -> Any:
        """One example."""


def from_arrays(
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    *,
    class_names: Sequence[str] | None = None,
    name: str = UNNAMED,
    source: str = "the caller's arrays",
    index_order: str = STORED_ORDER,
) -> Dataset:
    """A dataset of arrays.

    Args:
      train_images, test_images: [N, H, W] or [N, H, W, C], uint8, or floats in [0, 1], which are
        rounded to 255 levels.
      train_labels, test_labels: [N] or [N, 1], integers from 0.
      class_names: one for each class, which may then lack examples; None numbers them.
      name, source, index_order: see `Dataset`.

    Raises:
      InputError: naming what cannot be, and the likely mistake.

    Example:
      >>> images, labels = np.random.default_rng(0).random((10, 4, 4)), np.arange(10) % 2
      >>> from_arrays(images, labels, images, labels).image_shape
      (4, 4, 1)
    """
    train, rounded = _split(f"{name}'s training split", train_images, train_labels)
    test, rounded_too = _split(f"{name}'s test split", test_images, test_labels)
    if rounded or rounded_too:
        source = f"{source}, pixels rounded to 255 levels"
    if class_names is None:
        class_names = numbered(name, train.labels, test.labels)
    return checked(name, train, test, tuple(class_names), source, index_order)


def from_examples(
    train: Examples,
    test: Examples | None = None,
    *,
    class_names: Sequence[str] | None = None,
    name: str = "examples",
    source: str = "the caller's examples",
) -> Dataset:
    """A dataset of numbered examples, such as PyTorch's and Hugging Face's.

    Args:
      train: the training examples; see `Examples`.
      test: those to test on; None puts a fixed fifth of `train` there.
      class_names, name, source: as for `from_arrays`.

    Raises:
      InputError: for examples that are none, images of several shapes, and as `from_arrays`.

    Example:
      >>> examples = [({"image": np.zeros((4, 4), np.uint8), "label": i % 2}) for i in range(10)]
      >>> len(from_examples(examples).test.labels)
      2
    """
    images, labels = _stacked(f"{name}'s training split", train)
    if test is None:
        splits = permuted(name, images, labels)
        class_names = class_names or numbered(name, labels, labels)
        order = PERMUTED_ORDER
    else:
        splits = (images, labels), _stacked(f"{name}'s test split", test)
        order = STORED_ORDER
    return from_arrays(
        *splits[0],
        *splits[1],
        class_names=class_names,
        name=name,
        source=source,
        index_order=order,
    )


def _split(where: str, images: Any, labels: Any) -> tuple[Split, bool]:
    """A split with uint8 pixels and flat labels, and whether pixels were rounded."""
    images, labels = np.asarray(images), np.asarray(labels)
    _check_order(where, images.shape)
    rounded = False
    if images.dtype.kind == "f":
        images, rounded = _levels(where, images)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    return Split(images, labels), rounded


def _levels(where: str, images: np.ndarray) -> tuple[np.ndarray, bool]:
    """Floats in [0, 1] as 0 to 255, and whether that moved any of them."""
    low, high = (images.min(), images.max()) if images.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):
        hint = ""
        if low >= 0 and high <= 255:
            hint = ": divide by 255, or give them as uint8"
        elif low < 0:
            hint = ": undo the normalisation; a network has it (mean and std)"
        raise InputError(
            f"{where} has floating-point images from {low:g} to {high:g}: expected 0 to 1{hint}"
        )
    levels = np.rint(images.astype(np.float64) * 255)
    moved = bool(np.abs(levels / 255 - images).max(initial=0) > 1e-6)
    return levels.astype(np.uint8), moved


def _check_order(where: str, shape: tuple[int, ...]) -> None:
    channels = (1, 3, 4)
    if len(shape) == 4 and shape[1] in channels and shape[3] not in channels:
        raise InputError(
            f"{where} has images of shape {shape}: expected [N, H, W, C]; these look like "
            "PyTorch's [N, C, H, W]: transpose(0, 2, 3, 1)"
        )


def numbered(name: str, train_labels: np.ndarray, test_labels: np.ndarray) -> tuple[str, ...]:
    """0, 1, ... as names of the classes, each of which must be among the training labels.

    Raises:
      InputError: for a class without an example, or a label too high to be a class.
    """
    given = [labels for labels in (train_labels, test_labels) if _is_integer(labels)]
    highest = max((int(labels.max()) for labels in given), default=0)
    if not given or min(int(labels.min()) for labels in given) < 0:
        return tuple(map(str, range(highest + 1)))  # `checked` says what is wrong
    if highest >= MAX_CLASSES:
        raise InputError(
            f"{name} has a label {highest} and no class_names: expected labels below {MAX_CLASSES}"
        )
    missing = sorted(set(range(highest + 1)) - set(np.unique(given[0]).tolist()))
    if missing:
        hint = "give class_names if that is meant"
        if missing == [0]:
            hint = f"do they begin at 1? Subtract 1, or {hint}"
        elif highest == 255:
            hint = f"is 255 for what has no label? Leave those images out, or {hint}"
        listed = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise InputError(
            f"{name} has labels up to {highest} and no training image of class {listed}: {hint}"
        )
    return tuple(map(str, range(highest + 1)))


def _is_integer(labels: np.ndarray) -> bool:
    return labels.size > 0 and labels.ndim == 1 and labels.dtype.kind in "iu"


def _stacked(where: str, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    images: list[np.ndarray] = []
    labels: list[int] = []
    for index in range(len(examples)):
        image, label = _example(where, index, examples[index])
        if images and image.shape != images[0].shape:
            raise InputError(
                f"{where} has images of shape {images[0].shape} and, at {index}, {image.shape}: "
                "expected one shape; resize them"
            )
        images.append(image)
        labels.append(label)
    if not images:
        raise InputError(f"{where} is empty: expected at least one example")
    return np.stack(images), np.array(labels)


def _example(where: str, index: int, example: Any) -> tuple[np.ndarray, int]:
    if isinstance(example, dict):
        parts = [
            next((example[key] for key in keys if key in example), None)
            for keys in (_IMAGE_KEYS, _LABEL_KEYS)
        ]
    else:
        parts = list(example) if isinstance(example, tuple | list) else []
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        found = f"the keys {', '.join(map(str, example))}" if isinstance(example, dict) else "no"
        raise InputError(
            f"{where}, example {index}: expected (image, label), or a dict with image and label; "
            f"it has {found}{'' if isinstance(example, dict) else ' such pair'}"
        )
    image: Any = parts[0]
    label: Any = parts[1]
    is_tensor = hasattr(image, "detach")
    array = np.asarray(image.detach().cpu() if is_tensor else image)
    if is_tensor and array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    try:
        return array, int(label)
    except (TypeError, ValueError):
        raise InputError(
            f"{where}, example {index}, has a label of type {type(label).__name__}: expected an "
            "integer"
        ) from None
