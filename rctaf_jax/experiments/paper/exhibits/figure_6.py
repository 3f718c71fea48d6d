"""Figure 6: CIFAR-100, by DAJAT (the caption) and by DKL and TRADES (the text), beta 1."""

from .comparison import comparison, method_label

EXPERIMENT = comparison(
    "figure-6",
    "Figure 6: CIFAR-100",
    "On CIFAR-100 robustness peaks between 4 and 10 too. The paper's caption speaks of DAJAT, its "
    "text of DAJAT, DKL and TRADES.",
    ["cifar100-dajat", "cifar100-dkl", "cifar100-trades"],
    method_label,
)
