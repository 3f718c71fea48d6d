"""Rows and outcomes as types, with one reader; summaries, tables and figures of them."""

from .rows import HessianNorm, Results, Row, load_outcomes, load_results

__all__ = ["HessianNorm", "Results", "Row", "load_outcomes", "load_results"]
