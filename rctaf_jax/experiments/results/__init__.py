"""Rows and outcomes as types, with one reader; summaries, tables and figures of them."""

from .outcomes import load_outcomes
from .row import HessianNorm, Row
from .rows import Results, load_results

__all__ = ["HessianNorm", "Results", "Row", "load_outcomes", "load_results"]
