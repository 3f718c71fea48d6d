"""Tables as pictures: our values with intervals beside the paper's, a line for each activation."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from .plotting import GREY, LOOKS, dress, new_figure


class Dot(NamedTuple):
    """One line of one panel: a value with its ends, and the paper's; None where there is none."""

    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    paper: float | None = None


def dots_figure(
    panels: Sequence[tuple[str, str, Sequence[Dot]]],
    *,
    reference: float,
    here: str = "here",
    paper: str = "paper",
) -> Figure:
    """Panels beside each other.

    Args:
      panels: each with a title, the name of its axis and its dots.
      reference: a value to compare with, drawn as a line.
      here, paper: what the two kinds of dots are of.
    """
    height = 1.4 + 0.32 * max(len(dots) for _, _, dots in panels)
    figure = new_figure(len(panels), size=(5.2, height))
    for index, (title, x_label, dots) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        dress(axes, title=title, x_label=x_label, y_label="")
        axes.axvline(reference, color=GREY, linewidth=1.0)
        look = LOOKS[0]
        for y, dot in enumerate(dots):
            if dot.low is not None and dot.high is not None:
                axes.plot([dot.low, dot.high], [y, y], color=look.color, linewidth=2.0, alpha=0.5)
            if dot.value is not None:
                axes.plot(dot.value, y, marker=look.marker, color=look.color, linestyle="")
            if dot.paper is not None:
                axes.plot(
                    dot.paper, y, marker="D", markerfacecolor="none", color=GREY, linestyle=""
                )
        axes.plot([], [], marker=look.marker, color=look.color, linestyle="", label=here)
        axes.plot([], [], marker="D", markerfacecolor="none", color=GREY, linestyle="", label=paper)
        axes.set_yticks(range(len(dots)), [dot.label for dot in dots])
        axes.set_ylim(len(dots) + 1.1, -0.6)  # the first at the top, the legend below the last
        axes.legend(loc="lower left", frameon=False, fontsize=9.5)
    return figure
