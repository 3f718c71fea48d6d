"""What people give: numbers, seeds and names, refused in one sentence where they cannot be."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from rctaf_jax.errors import InputError

TableEntry = TypeVar("TableEntry")
LARGEST_COUNT = 2**31 - 1
"""JAX counts in 32 bits."""


def shortened(text: str, length: int = 80) -> str:
    """A text, or its beginning and end in no more than so many characters.

    >>> shortened("a" * 1000, 20), shortened("relu")
    ('aaaaaaaaa...aaaaaaaa', 'relu')
    """
    if len(text) <= length:
        return text
    end = (length - 3) // 2
    return f"{text[: length - 3 - end]}...{text[len(text) - end :]}"


def kind_of(value: object) -> str:
    """What something is, with its article.

    >>> kind_of(3), kind_of("x")
    ('an int', 'a str')
    """
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def lookup(kind: str, name: str, table: Mapping[str, TableEntry]) -> TableEntry:
    """The entry of a table by name.

    Args:
      kind: what the table is of, for the message.
      name: as somebody gave it.
      table: entries by name.

    Raises:
      InputError: for a name that is not in the table, with those that are.

    >>> lookup("norm", "L2", {"L2": 2, "L1": 1})
    2
    """
    try:
        return table[name]
    except (KeyError, TypeError):  # the latter: what cannot be a key, such as a list
        known = ", ".join(table)
        raise InputError(f"unknown {kind} {name!r}: choose one of {known}.") from None


def parse_number(text: str) -> float:
    """Read a number, a fraction such as `8/255` included.

    Raises:
      InputError: if `text` is neither.

    >>> parse_number("8/255") == 8 / 255
    True
    """
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{text!r} is not a number: give one such as 0.03 or 8/255.") from None


def check_positive(**values: float | None) -> None:
    """Refuse what is given and is not a positive finite number, or a count beyond 32 bits.

    Raises:
      InputError: naming the first such value.
    """
    for name, value in values.items():
        if value is None:
            continue
        named = name.replace("_", "-")
        if not 0 < value < math.inf:
            raise InputError(f"{named} must be a positive number; received {value}.")
        if isinstance(value, int) and value > LARGEST_COUNT:
            raise InputError(f"{named} must be at most {LARGEST_COUNT:,}; received {value}.")


def check_seed(seed: int) -> None:
    """Refuse a seed that JAX cannot take.

    Raises:
      InputError: if it has more than 64 bits.
    """
    if not -(2**63) <= seed < 2**63:
        raise InputError(f"a seed has at most 64 bits, one of them its sign; received {seed}.")


def short_name(source: str) -> str:
    """What a folder may be called after a name, a path, or package.module:name.

    >>> short_name("data/mine.npz"), short_name("theirs.nets:small"), short_name("digits")
    ('mine', 'theirs.nets-small', 'digits')
    """
    return source.replace(":", "-") if ":" in source else Path(source).stem
