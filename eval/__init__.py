"""Measurements of a network: clean accuracy, and robust accuracy under attack."""

from .accuracy import CleanEvaluation, Interval, make_clean_evaluation, wilson_interval
from .autoattack import AutoAttackResult, autoattack, make_autoattack
from .autoattack.apgd import make_apgd, make_apgd_targeted
from .autoattack.checks import AutoAttackWarning
from .autoattack.curve import RobustCurve, robust_curve
from .autoattack.distances import MinimalDistances, minimal_distances
from .autoattack.fab import make_fab, make_fab_targeted
from .autoattack.square import make_square
from .classes import of_classes
from .pgd import PGDResult, make_fgsm, make_pgd, pgd_attack

__all__ = [
    "AutoAttackResult",
    "AutoAttackWarning",
    "CleanEvaluation",
    "Interval",
    "MinimalDistances",
    "PGDResult",
    "RobustCurve",
    "autoattack",
    "make_apgd",
    "make_apgd_targeted",
    "make_autoattack",
    "make_clean_evaluation",
    "make_fab",
    "make_fab_targeted",
    "make_fgsm",
    "make_pgd",
    "make_square",
    "minimal_distances",
    "of_classes",
    "pgd_attack",
    "robust_curve",
    "wilson_interval",
]
