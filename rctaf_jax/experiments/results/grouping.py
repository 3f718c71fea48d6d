"""Rows by what they have in common, in the order in which they come."""

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from .row import Row

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by their key.

    Example:
      >>> grouped([3, 1, 4, 5], lambda number: number % 2)
      {1: [3, 1, 5], 0: [4]}
    """
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def by_activation(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of each activation, which differ in their seed only."""
    return list(grouped(rows, lambda row: (row.family, row.alpha)).values())
