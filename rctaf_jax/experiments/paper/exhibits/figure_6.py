"""Figure 6: another dataset, beta 1: in the paper CIFAR-100, else what the scale has."""

from .comparison import comparison
from .curves import setting_label

EXPERIMENT = comparison(
    "figure-6",
    "Figure 6: another dataset",
    "On CIFAR-100 robustness peaks between 4 and 10 too. The paper's caption speaks of DAJAT, its "
    "text of DAJAT, DKL and TRADES.",
    setting_label,
)
