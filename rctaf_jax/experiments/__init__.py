"""The shell: sweeps, run folders, figures, tables, reports and the subcommands.

From Python: `load` reads a results folder as a table, `load_outcomes` what a network did with each
test image.
"""

from .results.frames import load
from .results.outcomes import load_outcomes

__all__ = ["load", "load_outcomes"]
