"""The extra `report`: figures, pages, verdicts and tables of results, which networks do without."""

from collections.abc import Sequence
from importlib import util

from rctaf_jax.errors import InputError

REPORT = ("jinja2", "markupsafe", "matplotlib", "pandas", "statsmodels")
"""What it installs, by the names that are imported."""
INSTALL_REPORT = "pip install 'rctaf-jax[report]'"


def missing(packages: Sequence[str] = REPORT) -> list[str]:
    """Those of `packages` that are not installed; none is imported.

    >>> missing(["json", "no_such_package"])
    ['no_such_package']
    """
    return [name for name in packages if util.find_spec(name) is None]


def check_report(what: str, packages: Sequence[str] = REPORT) -> None:
    """Refuse what would end without its report, before it begins.

    Args:
      what: needs the packages, in a few words.
      packages: that it needs, of those in `REPORT`.

    Raises:
      InputError: naming those that are not installed, and the command that installs them.
    """
    absent = missing(packages)
    if absent:
        are = "is" if len(absent) == 1 else "are"
        raise InputError(
            f"{what} needs {', '.join(absent)}, which {are} not installed: {INSTALL_REPORT}."
        )
