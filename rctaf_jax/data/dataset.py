"""What a dataset is: two splits of pixels and labels that know where they come from.

`checked` is the only way in: every source hands it arrays as it found them, and what comes out
has the shapes, the types and the label range that the rest of the library relies on.
"""

import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

from rctaf_jax.errors import InputError

STORED_ORDER = "as stored"


class Split(NamedTuple):
    """Images and labels; the same index belongs together, and both arrays are C-contiguous.

    Attributes:
        images: pixels 0..255, [N, H, W, C].
        labels: classes 0..num_classes - 1, [N].
    """

    images: UInt8[np.ndarray, "N H W C"]
    labels: Int32[np.ndarray, "N"]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split, and their origin.

    Attributes:
        name: what results call it, for example `cifar10[train=5000,test=1000]`.
        train: the training split.
        test: the test split, of the same image shape.
        class_names: one name for each label.
        source: one sentence that says where the pixels are from.
        index_order: one phrase that says how the examples are ordered.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    index_order: str = STORED_ORDER

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        sizes = f"{len(self.train.labels):,} + {len(self.test.labels):,}"
        return f"Dataset({self.name!r}: {sizes} images of {shape}, {self.num_classes} classes)"

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @functools.cached_property
    def content_hash(self) -> str:
        """See `content_hash`; computed when it is first asked for."""
        return content_hash(self.train, self.test)

    def provenance(self) -> dict[str, Any]:
        """What a result needs to say about its data, in values that JSON can hold."""
        return {
            "name": self.name,
            "source": self.source,
            "image_shape": list(self.image_shape),
            "num_train": len(self.train.labels),
            "num_test": len(self.test.labels),
            "class_names": list(self.class_names),
            "index_order": self.index_order,
            "content_hash": self.content_hash,
        }


def content_hash(train: Split, test: Split) -> str:
    """SHA-256, in hexadecimal, of shapes and bytes: images then labels, train then test.

    The order of the examples counts, names and origin do not.
    """
    digest = hashlib.sha256()
    for split in (train, test):
        for array, dtype in ((split.images, "u1"), (split.labels, "<i4")):
            digest.update(repr(tuple(map(int, array.shape))).encode())
            digest.update(np.ascontiguousarray(array, dtype=dtype).data)
    return digest.hexdigest()


def checked(
    name: str,
    train: Split,
    test: Split,
    class_names: tuple[str, ...],
    source: str,
    index_order: str = STORED_ORDER,
) -> Dataset:
    """Makes a dataset of arrays as a source gave them.

    Args:
        name: the dataset's name.
        train: uint8 images [N, H, W] or [N, H, W, C], and labels [N] of any integer type.
        test: likewise, of the same image shape.
        class_names: one distinct name for each label.
        source: one sentence that says where the pixels are from.
        index_order: one phrase that says how the examples are ordered.

    Raises:
        InputError: if a shape, a type, a label or a number of examples is not allowed.
    """
    if len(set(class_names)) < len(class_names):
        raise InputError(
            f"{name} gives a class name twice in {_shortened(class_names)}: expected distinct names"
        )
    train = _checked_split(f"{name}'s training split", train, len(class_names))
    test = _checked_split(f"{name}'s test split", test, len(class_names))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"{name} has training images of shape {train.images.shape[1:]} and test images of "
            f"shape {test.images.shape[1:]}: expected one shape"
        )
    return Dataset(name, train, test, class_names, source, index_order)


def _checked_split(where: str, split: Split, num_classes: int) -> Split:
    images, labels = split
    if images.dtype != np.uint8:
        raise InputError(f"{where} has images of type {images.dtype}: expected uint8, 0 to 255")
    if images.ndim not in (3, 4):
        raise InputError(
            f"{where} has images of shape {images.shape}: expected [N, H, W] or [N, H, W, C]"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise InputError(
            f"{where} has labels of type {labels.dtype} and shape {labels.shape}: expected "
            "integers of shape [N]"
        )
    if len(images) != len(labels):
        raise InputError(
            f"{where} has {len(images)} images and {len(labels)} labels: expected as many of each"
        )
    if images.size == 0:
        raise InputError(
            f"{where} is empty, with images of shape {images.shape}: expected at least one pixel"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(
            f"{where} has labels from {labels.min()} to {labels.max()}: expected 0 to "
            f"{num_classes - 1}, for its {num_classes} classes"
        )
    if images.ndim == 3:
        images = images[..., None]
    return Split(np.ascontiguousarray(images), np.ascontiguousarray(labels, np.int32))


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
