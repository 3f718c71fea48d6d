"""Datasets as arrays: `named` finds one by name, `dataset` says what one is; a file a source."""

from .arrays import from_arrays, from_examples
from .dataset import Dataset, Split
from .held_out import HeldOut, hold_out
from .named import NAMES, load, load_data, register_dataset, subset

__all__ = [
    "NAMES",
    "Dataset",
    "HeldOut",
    "Split",
    "from_arrays",
    "from_examples",
    "hold_out",
    "load",
    "load_data",
    "register_dataset",
    "subset",
]
