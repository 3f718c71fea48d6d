"""A sweep's results as figures, after the paper's Figures 3 and 7.

Each line is one beta, its small dots the single members. Its band is the 95% interval over three
seeds or more at every curvature, without what a seed does to all activations, as verdicts have it;
with fewer seeds there are dots alone. Baselines without a finite curvature are horizontal lines;
others stand at their own. A cross on the lower edge is a member that diverged.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rctaf_jax.experiments.show.plotting import (
    GREY,
    INK,
    LOOKS,
    Label,
    Look,
    dress,
    new_figure,
    place_labels,
    use_log_x,
    use_log_y,
)
from rctaf_jax.experiments.show.wording import (
    ALPHA,
    CURVATURE,
    HESSIAN_LABEL,
    PAPER_RANGE,
    family_label,
    number,
)

from .grouping import grouped
from .row import Row
from .rows import Results
from .summary import IntervalEstimate, Summary, summarise


class PlottedQuantity(NamedTuple):
    """Something measured on every member, in the units of its axis."""

    title: str
    y_label: str
    of_row: Callable[[Row], float | None]
    of_summary: Callable[[Summary], IntervalEstimate | None]
    scale: float
    largest: float


class Abscissa(NamedTuple):
    """What a panel's x axis shows."""

    name: str
    of: Callable[[Row | Summary], float | None]
    has_paper_range: bool


def _fraction(correct: int | None, total: int | None) -> float | None:
    return correct / total if correct is not None and total else None


ROBUST_ACCURACY = PlottedQuantity(
    "Robust accuracy",
    "robust accuracy (%)",
    lambda row: _fraction(row.robust_correct, row.num_test),
    lambda summary: summary.robust,
    100.0,
    100.0,
)
CLEAN_ACCURACY = PlottedQuantity(
    "Clean accuracy",
    "clean accuracy (%)",
    lambda row: _fraction(row.clean_correct, row.num_test),
    lambda summary: summary.clean,
    100.0,
    100.0,
)
HESSIAN_NORM = PlottedQuantity(
    "Hessian norm",
    HESSIAN_LABEL,
    lambda row: row.hessian.rms if row.hessian else None,
    lambda summary: summary.hessian,
    1.0,
    math.inf,
)
SHARPNESS = Abscissa(ALPHA, lambda item: item.alpha, False)
MAX_CURVATURE = Abscissa(
    CURVATURE,
    lambda item: item.max_curvature if math.isfinite(item.max_curvature) else None,
    True,
)


class Series(NamedTuple):
    """What one line shows: activations with their means, and the single networks behind them."""

    label: str
    look: Look
    summaries: Sequence[Summary]
    rows: Sequence[Row]


Panel = Callable[[Axes], None]


def series_by_family(rows: Sequence[Row]) -> list[Series]:
    """A line for each beta and each baseline of one study; spreads are pooled over all of them."""
    families = grouped(summarise(rows), lambda summary: summary.family)
    rows_of = grouped(rows, lambda row: row.family)
    series, num_baselines = [], 0
    for family, summaries in families.items():
        beta = summaries[0].beta
        look = LOOKS[(3 + num_baselines if beta is None else beta) % len(LOOKS)]
        num_baselines += beta is None
        label = family_label(family).removeprefix("RCT-AF ")
        series.append(Series(label, look, summaries, rows_of[family]))
    return series


def robustness_panels(rows: Sequence[Row]) -> list[Panel]:
    """The two panels of Figure 3: robust accuracy against alpha, and against max |sigma''|."""
    series = series_by_family(rows)
    return [partial(draw_panel, series, ROBUST_ACCURACY, x) for x in (SHARPNESS, MAX_CURVATURE)]


def mechanism_panels(rows: Sequence[Row]) -> list[Panel]:
    """The two panels of Figure 7: clean accuracy and Hessian norm against max |sigma''|."""
    series = series_by_family(rows)
    return [partial(draw_panel, series, y, MAX_CURVATURE) for y in (CLEAN_ACCURACY, HESSIAN_NORM)]


def robustness_figure(results: Results) -> Figure:
    """A sweep's robust accuracy against alpha, and against max |sigma''|."""
    return draw_panels(robustness_panels(results.rows))


def mechanism_figure(results: Results) -> Figure:
    """A sweep's clean accuracy and Hessian norm (8) against max |sigma''|."""
    return draw_panels(mechanism_panels(results.rows))


def draw_panels(panels: Sequence[Panel]) -> Figure:
    """Panels beside each other, as one figure."""
    figure = new_figure(len(panels))
    for index, panel in enumerate(panels):
        panel(figure.add_subplot(1, len(panels), index + 1))
    return figure


class _Line(NamedTuple):
    """Estimates of one series by rising x; without x, the one of a baseline that has none."""

    label: str
    look: Look
    x: list[float]
    estimates: list[IntervalEstimate]
    rows: Sequence[Row]


def draw_panel(
    series: Sequence[Series], quantity: PlottedQuantity, abscissa: Abscissa, axes: Axes
) -> None:
    """One quantity of every series over one abscissa."""
    title = f"{quantity.title} against {abscissa.name}"
    x_label = f"{abscissa.name} (logarithmic)"
    dress(axes, title=title, x_label=x_label, y_label=quantity.y_label)
    lines = [line for one in series if (line := _line(one, quantity, abscissa)).estimates]
    levels = [line for line in lines if not line.x]
    curves = [line for line in lines if line.x]
    if not lines:
        axes.text(0.5, 0.5, "no measurement", transform=axes.transAxes, ha="center", color=GREY)
        return
    rows = [row for one in series for row in one.rows if not row.is_done]
    crosses = [x for row in rows if (x := abscissa.of(row)) is not None]
    use_log_x(axes, [x for line in curves for x in line.x] + crosses or [1.0, 10.0])
    for line in levels:
        _draw_level(axes, line, quantity.scale, shade=0.14 / len(levels))
    for line in curves:
        _draw_members(axes, line, quantity, abscissa)
        _draw_curve(axes, line, quantity.scale)
    _draw_diverged(axes, crosses)
    _limit_y(axes, lines, quantity)
    if abscissa.has_paper_range:
        _shade_paper_range(axes)
    _label(axes, levels, curves, quantity.scale)


def _line(series: Series, quantity: PlottedQuantity, abscissa: Abscissa) -> _Line:
    points = [(abscissa.of(one), quantity.of_summary(one)) for one in series.summaries]
    placed = sorted((x, e) for x, e in points if x is not None and e is not None)
    if placed:
        x, estimates = [x for x, _ in placed], [e for _, e in placed]
    else:
        x, estimates = [], [e for _, e in points if e is not None]
    return _Line(series.label, series.look, x, estimates, series.rows)


def _draw_curve(axes: Axes, line: _Line, scale: float) -> None:
    color, marker, dashes = line.look
    means = [scale * estimate.mean for estimate in line.estimates]
    low = [scale * estimate.low for estimate in line.estimates]
    high = [scale * estimate.high for estimate in line.estimates]
    if len(line.x) > 1:
        axes.fill_between(line.x, low, high, color=color, alpha=0.13, linewidth=0)
    else:  # a band over one point has no width
        axes.plot([line.x[0]] * 2, [low[0], high[0]], color=color, alpha=0.5, linewidth=1.5)
    axes.plot(
        line.x, means, color=color, marker=marker, linestyle=dashes, linewidth=1.8, markersize=6
    )


def _draw_members(axes: Axes, line: _Line, quantity: PlottedQuantity, abscissa: Abscissa) -> None:
    points = [(abscissa.of(row), quantity.of_row(row)) for row in line.rows]
    known = [(x, quantity.scale * y) for x, y in points if x is not None and y is not None]
    xs, ys = [x for x, _ in known], [y for _, y in known]
    axes.plot(xs, ys, ".", color=line.look.color, alpha=0.45, markersize=4)


def _draw_diverged(axes: Axes, crosses: Sequence[float]) -> None:
    """A cross on the lower edge for every member that diverged."""
    for x in crosses:
        axes.plot(x, 0.02, "x", transform=axes.get_xaxis_transform(), color=INK, markersize=6)


def _draw_level(axes: Axes, line: _Line, scale: float, *, shade: float) -> None:
    (estimate,) = line.estimates
    if estimate.has_interval:
        low, high = scale * estimate.low, scale * estimate.high
        axes.axhspan(low, high, color=GREY, alpha=shade, linewidth=0)
    axes.axhline(scale * estimate.mean, color=GREY, linestyle=line.look.dashes, linewidth=1.4)


def _limit_y(axes: Axes, lines: Sequence[_Line], quantity: PlottedQuantity) -> None:
    estimates = [estimate for line in lines for estimate in line.estimates]
    ends = [quantity.scale * end for e in estimates for end in e if not math.isnan(end)]
    measured = (quantity.of_row(row) for line in lines for row in line.rows)
    ends += [quantity.scale * value for value in measured if value is not None]
    low, high = min(ends), max(ends)
    means = [quantity.scale * e.mean for e in estimates]
    if math.isinf(quantity.largest) and min(means) > 0 and max(means) > 10 * min(means):
        low = max(low, min(means) / 10)  # an interval may reach 0, which has no logarithm
        axes.set_ylim(low / 1.2, high * 1.5)
        use_log_y(axes)
        return
    margin = 0.08 * (high - low) or 0.1 * high or 1.0
    axes.set_ylim(max(low - margin, 0.0), min(high + 1.5 * margin, 1.02 * quantity.largest))


def _shade_paper_range(axes: Axes) -> None:
    low, high = PAPER_RANGE
    left, right = axes.get_xlim()
    axes.axvspan(low, high, color="#f0c419", alpha=0.14, linewidth=0, zorder=0)
    axes.set_xlim(min(left, low / 1.1), max(right, high * 1.1))
    axes.text(
        math.sqrt(low * high),
        0.985,
        f"paper: {number(low)} to {number(high)}",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
        fontsize=9.5,
        color=INK,
    )


def _label(axes: Axes, levels: Sequence[_Line], curves: Sequence[_Line], scale: float) -> None:
    assert isinstance(axes.figure, Figure)
    axes.figure.draw_without_rendering()  # so that heights are final
    right = axes.get_xlim()[1]
    ends = [
        Label(
            line.label,
            line.x[-1],
            scale * line.estimates[-1].mean,
            line.look.color,
        )
        for line in curves
    ]
    starts = [Label(line.label, right, scale * line.estimates[0].mean, GREY) for line in levels]
    place_labels(axes, ends)
    place_labels(axes, starts)
