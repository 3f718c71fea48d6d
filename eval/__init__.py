"""Measurements of a network: clean accuracy, and robust accuracy under attack."""

from .accuracy import CleanEvaluation, Interval, make_clean_evaluation, wilson_interval
from .pgd import PGDResult, make_fgsm, make_pgd

__all__ = [
    "CleanEvaluation",
    "Interval",
    "PGDResult",
    "make_clean_evaluation",
    "make_fgsm",
    "make_pgd",
    "wilson_interval",
]
