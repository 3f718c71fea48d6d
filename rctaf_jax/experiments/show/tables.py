"""Tables for the terminal: how they look, and those of activations and datasets."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from rctaf_jax.activations import Activation
from rctaf_jax.data import Dataset

from .wording import CURVATURE, number

_PAPER_DIGITS = 2e-3  # the paper prints three decimals


class TextTable(NamedTuple):
    """A table of words."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def curvature_table(activations: Sequence[Activation]) -> Table:
    """The true max |sigma''| of each activation, where it is, and the paper's value if it differs.

    Example:
      >>> from rctaf_jax.activations import parse_activation
      >>> curvature_table([parse_activation("mish")]).row_count
      1
    """
    table = empty_table("activation", CURVATURE, "at x", "note", "paper")
    for activation in activations:
        value, location, note, paper_value = activation.curvature
        table.add_row(
            Text(activation.text),
            number(value),
            number(location),
            note,
            "" if paper_value is None or _agrees(value, paper_value) else number(paper_value),
        )
    return table


def dataset_table(dataset: Dataset) -> Table:
    """What a dataset holds."""
    table = empty_table("dataset", "")
    values = table.columns[1]
    values.no_wrap, values.justify = False, "left"
    for name, value in dataset.provenance().items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(name.replace("_", " "), Text(words, overflow="fold"))
    return table


def text_table(text: TextTable, title: str | None = None) -> Table:
    """Words in columns for the terminal, the first at the left."""
    table = empty_table(*text.columns)
    table.title = None if title is None else Text(title)
    for row in text.rows:
        table.add_row(*map(Text, row))
    return table


def _agrees(value: float, paper_value: float) -> bool:
    return math.isclose(value, paper_value, rel_tol=_PAPER_DIGITS)


def empty_table(*columns: str) -> Table:
    """A table without lines: words in the first column and in "note", numbers at the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for index, column in enumerate(columns):
        is_text = index == 0 or column == "note"
        table.add_column(column, justify="left" if is_text else "right", no_wrap=column != "note")
    return table
