"""What all figures share: colours and marks that everyone can tell apart, axes, labels, files.

Figures are matplotlib `Figure` objects without pyplot, so nothing global is touched and no window
opens.
"""

import io
import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from rctaf_jax.files import write_bytes_atomic, write_text_atomic

PANEL_SIZE = (5.2, 4.0)  # inches
INK, GREY, LIGHT = "#222222", "#5f5f5f", "#dddddd"
_MARGIN = 0.04
HALO = [withStroke(linewidth=3.0, foreground="white")]


class Look(NamedTuple):
    """Colour, marker and dashes of one line; any one of the three is enough to tell it."""

    color: str
    marker: str
    dashes: str | tuple[float, tuple[float, ...]]


# Okabe and Ito's hues, for all kinds of colour vision, darkened until their labels read on white.
LOOKS = (
    Look("#0067a5", "o", "-"),
    Look("#b84a00", "s", (0, (5, 1.5))),
    Look("#00735a", "^", (0, (1.5, 1.5))),
    Look("#9b3f7c", "D", (0, (5, 1.5, 1.5, 1.5))),
    Look("#7a6a00", "v", (0, (8, 2))),
    Look("#3d3d9e", "P", (0, (3, 1, 1, 1, 1, 1))),
)


def new_figure(num_panels: int, *, size: tuple[float, float] = PANEL_SIZE) -> Figure:
    """An empty figure that will hold so many panels beside each other."""
    return Figure(figsize=(size[0] * num_panels, size[1]), layout="constrained")


def dress(axes: Axes, *, title: str, x_label: str, y_label: str) -> None:
    """Gives axes their texts, a light grid, and no box."""
    axes.set_title(title, loc="left", fontsize=12, color=INK)
    axes.set_xlabel(x_label, fontsize=11, color=INK)
    axes.set_ylabel(y_label, fontsize=11, color=INK)
    axes.tick_params(colors=GREY, labelsize=10, length=3)
    axes.grid(True, color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)


def use_log_x(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis over positive values, with room at the right for labels."""
    low, high = min(values), max(values)
    span = max(high / low, 10.0)
    axes.set_xscale("log")
    axes.set_xlim(low / span**0.06, high * span**0.18)
    _plain_ticks(axes, "x")


def use_log_y(axes: Axes) -> None:
    """A logarithmic y axis over the range that it has now."""
    axes.set_yscale("log")
    _plain_ticks(axes, "y")


def _plain_ticks(axes: Axes, name: str) -> None:
    """Ticks at round plain numbers: the coarsest of four choices that gives four or more."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1.0,), (1.0, 2.0, 5.0), range(1, 10), np.arange(1.0, 10.0, 0.5)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > 3:
            break
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


class Label(NamedTuple):
    """A text beside the point (x, y), in data units."""

    text: str
    x: float
    y: float
    color: str


def place_labels(axes: Axes, labels: Sequence[Label], *, points: float = 13.0) -> None:
    """Writes labels to the right of their points, moved up or down until none covers another.

    The limits of the y axis must be final.
    """
    height = axes.bbox.height / axes.figure.dpi * 72
    figure_y = [axes.transLimits.transform(_scaled(axes, label))[1] * height for label in labels]
    order = sorted(range(len(labels)), key=figure_y.__getitem__)
    placed = spread_labels([figure_y[index] for index in order], points)
    for index, y in zip(order, placed, strict=True):
        label = labels[index]
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(8.0, y - figure_y[index]),
            textcoords="offset points",
            va="center",
            color=label.color,
            fontsize=10.5,
            fontweight="bold",
            path_effects=HALO,
            annotation_clip=False,
        )


def _scaled(axes: Axes, label: Label) -> tuple[float, float]:
    x, y = axes.transScale.transform((label.x, label.y))
    return float(x), float(y)


def spread_labels(positions: Sequence[float], gap: float) -> list[float]:
    """Moves ascending positions apart to at least `gap`, each group about its own middle.

    Example:
      >>> spread_labels([0.0, 1.0, 30.0], 10.0)
      [-4.5, 5.5, 30.0]
    """
    groups: list[list[float]] = []
    for position in positions:
        groups.append([position])
        while len(groups) > 1 and _low(groups[-1], gap) < _high(groups[-2], gap) + gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_low(group, gap) + gap * index for group in groups for index in range(len(group))]


def _low(group: list[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def _high(group: list[float], gap: float) -> float:
    return _low(group, gap) + gap * (len(group) - 1)


def png(figure: Figure, *, dpi: int = 160) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, area: Bbox | None = None) -> str:
    """The figure as an SVG file, the same text every time; its letters are drawn as paths.

    Args:
      figure: the figure.
      area: the part of it to keep, in inches; None keeps all.
    """
    buffer = io.StringIO()
    # Otherwise an SVG has the time and random ids in it, and differs at every writing.
    with rc_context({"svg.hashsalt": "rctaf", "svg.fonttype": "path"}):
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=metadata, bbox_inches=area)
    return buffer.getvalue()


def fix_layout(figure: Figure) -> None:
    """Finds every place once; otherwise each file would find them anew, and draw twice for it."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)


def save_figure(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Writes a figure as PNG and as SVG, atomically. The figure keeps the layout that it has now.

    Args:
      figure: the figure.
      path: of both files, without an ending.
    """
    fix_layout(figure)
    return (
        write_bytes_atomic(path.with_name(f"{path.name}.png"), png(figure)),
        write_text_atomic(path.with_name(f"{path.name}.svg"), svg(figure)),
    )


def inline_panels(figure: Figure, *, name: str, description: str) -> list[str]:
    """Each panel of a figure as an `<svg>` element for a page: any width, read out as text.

    The figure keeps the layout that it has now.

    Args:
      figure: with panels beside each other.
      name: put before every id, which would otherwise repeat from figure to figure.
      description: what a screen reader says before the panel's title.
    """
    fix_layout(figure)
    panels = []
    areas = [_area(axes) for axes in figure.axes]
    for index, (axes, area) in enumerate(zip(figure.axes, areas, strict=True)):
        for other in figure.axes:
            other.set_visible(other is axes)
        text = f"{description}: {axes.get_title(loc='left')}"
        panels.append(_inline(svg(figure, area), f"{name}-{index}", text))
    for axes in figure.axes:
        axes.set_visible(True)
    return panels


def _area(axes: Axes) -> Bbox:
    """The part of its figure that a panel takes, in inches; from the bottom to the top."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    box = axes.get_tightbbox()
    assert box is not None  # it is visible
    left, right = (figure.dpi_scale_trans.inverted().transform((x, 0.0))[0] for x in box.intervalx)
    return Bbox.from_extents(left - _MARGIN, 0.0, right + _MARGIN, figure.get_figheight())


def _inline(text: str, name: str, description: str) -> str:
    """An SVG file as an element with ids of its own."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    head = re.search(r'viewBox="([^"]*)"', text)
    assert head is not None  # matplotlib writes one
    body = text[text.index(">") + 1 :]
    opening = f'<svg viewBox="{head[1]}" role="img" aria-label="{escape(description)}">'
    return opening + body
