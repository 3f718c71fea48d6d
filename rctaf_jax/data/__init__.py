"""Datasets as arrays: `named` finds one by name, `dataset` says what one is; a file a source."""

from .dataset import Dataset, Split
from .named import NAMES, load, load_data, subset

__all__ = ["NAMES", "Dataset", "Split", "load", "load_data", "subset"]
