"""Figure 2: the family's second derivatives, their extrema marked."""

from .drawings import family_drawing

EXPERIMENT = family_drawing(
    "figure-2",
    "Figure 2: second derivatives of the family",
    "The largest second derivative is at 0: alpha/4, alpha/2 and alpha for beta 0, 1 and 2, with "
    "2 beta + 1 extrema.",
    derivative_order=2,
)
