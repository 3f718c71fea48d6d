"""The methods by name: the one table to extend when a method is added."""

from collections.abc import Mapping

from rctaf_jax.values import lookup

from . import dajat, dkl, mart, pgd_at, standard, trades
from .method import Method, Published

METHODS: dict[str, Published] = {
    "standard": Published(standard.standard, standard.recipe),
    "pgd-at": Published(pgd_at.pgd_at, pgd_at.recipe),
    "trades": Published(trades.trades, trades.recipe),
    "mart": Published(mart.mart, mart.recipe),
    "dkl": Published(dkl.dkl, dkl.recipe),
    "acat": Published(dajat.acat, dajat.acat_recipe),
    "dajat": Published(dajat.dajat, dajat.recipe),
}


def published(name: str) -> Published:
    """How a method is made, and its published recipes.

    Raises:
      InputError: for a name that is not in the table.
    """
    return lookup("method", name, METHODS)


def make_method(name: str, options: Mapping[str, float]) -> Method:
    """The method with all of its own numbers.

    Raises:
      InputError: for a name that is not in the table.
    """
    return published(name).make(**options)
