"""Figure 5: several training methods, beta 1."""

from .comparison import comparison, method_label

EXPERIMENT = comparison(
    "figure-5",
    "Figure 5: training methods",
    "Under DAJAT, DKL and TRADES robustness rises to curvatures of 4 to 10 and then falls.",
    method_label,
)
