"""The methods by name: the one table to extend when a method is added."""

from collections.abc import Callable

from rctaf_jax.errors import InputError

from . import pgd_at, standard, trades
from .method import Method, Recipe

METHODS: dict[str, tuple[Callable[[], Method], Recipe]] = {
    "standard": (standard.standard, standard.RECIPE),
    "pgd-at": (pgd_at.pgd_at, pgd_at.RECIPE),
    "trades": (trades.trades, trades.RECIPE),
}


def method_named(name: str) -> tuple[Method, Recipe]:
    """The method and its published recipe.

    Raises:
      InputError: for a name that is not in the table.
    """
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}: choose one of {', '.join(METHODS)}.")
    make, recipe = METHODS[name]
    return make(), recipe
