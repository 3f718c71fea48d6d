"""The methods by name: the one table to extend when a method is added.

Others bring theirs by `register_method`, by an entry point in `rctaf_jax.methods`, or by its place,
`package.module:name`; each is a `Published`.
"""

from collections.abc import Callable, Mapping

from rctaf_jax.errors import InputError
from rctaf_jax.plugins import find_part
from rctaf_jax.values import kind_of

from . import dajat, dkl, mart, pgd_at, standard, trades
from .method import Method, Published, Recipe, RecipeSetting

METHODS: dict[str, Published] = {
    "standard": Published(standard.standard, standard.recipe),
    "pgd-at": Published(pgd_at.pgd_at, pgd_at.recipe),
    "trades": Published(trades.trades, trades.recipe),
    "mart": Published(mart.mart, mart.recipe),
    "dkl": Published(dkl.dkl, dkl.recipe),
    "acat": Published(dajat.acat, dajat.acat_recipe),
    "dajat": Published(dajat.dajat, dajat.recipe),
}


_BUILT_IN = frozenset(METHODS)


def register_method(
    name: str, make: Callable[..., Method], recipe: Callable[[RecipeSetting], Recipe]
) -> None:
    """Make a method known by name, in this process.

    Args:
      name: for `--method` and `TrainConfig`; what has it already is replaced, unless it is ours.
      make: from the recipe's options, by name, to the method.
      recipe: from a setting to its settings of training.

    Raises:
      InputError: for the name of one of ours.
    """
    if name in _BUILT_IN:
        raise InputError(f"method name {name!r} is one of this library's: choose another.")
    METHODS[name] = Published(make, recipe)


def published(name: str) -> Published:
    """How a method is made, and its published recipes.

    Raises:
      InputError: for a name that nobody has, or a part that is no method.
    """
    if name not in METHODS and (part := find_part("methods", name)) is not None:
        if not isinstance(part, Published):
            raise InputError(
                f"method {name} is {kind_of(part)}: it must be a "
                "rctaf_jax.training.methods.method.Published(make, recipe)."
            )
        METHODS[name] = part
    if name not in METHODS:
        raise InputError(
            f"unknown method {name!r}: choose one of {', '.join(METHODS)}, a name of a package "
            "that must be installed, or package.module:name."
        )
    return METHODS[name]


def make_method(name: str, options: Mapping[str, float]) -> Method:
    """The method with all of its own numbers.

    Raises:
      InputError: for a name that nobody has.
    """
    return published(name).make(**options)
