"""Figure 1: the family."""

from .drawings import family_drawing

EXPERIMENT = family_drawing(
    "figure-1",
    "Figure 1: the family RCT-AF",
    "A larger alpha sets negative and positive inputs apart more sharply, for every beta.",
    derivative_order=0,
)
