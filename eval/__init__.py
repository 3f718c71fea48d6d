"""Measurements of a network: clean accuracy, and robust accuracy under attack."""

from .accuracy import CleanEvaluation, Interval, make_clean_evaluation, wilson_interval
from .apgd import make_apgd, make_apgd_targeted
from .autoattack import AutoAttackResult, autoattack, make_autoattack, run_attack
from .checks import AutoAttackWarning
from .fab import make_fab, make_fab_targeted
from .pgd import PGDResult, make_fgsm, make_pgd
from .square import make_square

__all__ = [
    "AutoAttackResult",
    "AutoAttackWarning",
    "CleanEvaluation",
    "Interval",
    "PGDResult",
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
    "run_attack",
    "wilson_interval",
]
