"""The shell: sweeps, run folders, figures, tables, reports and the subcommands.

From Python: `load` reads a results folder as a table, `load_outcomes` what a network did with each
test image.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .results.frames import load_frame as load
    from .results.outcomes import load_outcomes

__all__ = ["load", "load_outcomes"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for only then: the subcommands are below this package, too."""
    if name == "load":
        from .results.frames import load_frame

        return load_frame
    if name == "load_outcomes":
        from .results.outcomes import load_outcomes

        return load_outcomes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
