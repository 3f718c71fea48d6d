"""The paper's appendix against autodiff as one figure of four panels."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rctaf_jax.experiments.show.plotting import (
    GREY,
    INK,
    LOOKS,
    PANEL_SIZE,
    Label,
    Look,
    dress,
    new_figure,
    place_labels,
    use_log_x,
    use_log_y,
)
from rctaf_jax.experiments.show.wording import ALPHA, SIGMA, count, number

from .tables import AppendixRows, distinct, middle, select

_SMALLEST = 1e-17  # a logarithmic axis has no 0
_DASHES: tuple[tuple[float, tuple[float, ...]] | Literal["-"], ...] = (
    "-",
    (0, (4, 2)),
    (0, (1, 1.5)),
)


def appendix_figure(rows: AppendixRows) -> Figure:
    """Errors by depth and by layer, the share of the part with sigma'', and its growth with alpha.

    Args:
      rows: of `appendix.json`.
    """
    figure = new_figure(2, size=(PANEL_SIZE[0], 2 * PANEL_SIZE[1]))
    panels = (_draw_errors, _draw_layers, _draw_shares, _draw_growth)
    for index, panel in enumerate(panels):
        panel(figure.add_subplot(2, 2, index + 1), rows)
    return figure


class _Line(NamedTuple):
    look: Look
    name: str
    rows: AppendixRows
    text: str


def _draw_errors(axes: Axes, rows: AppendixRows) -> None:
    """The diagonal's error against depth for the smallest beta, with its range over seeds."""
    beta, depths = min(distinct(rows, "beta")), distinct(rows, "hidden_layers")
    lines = _error_lines(select(rows, beta=beta))
    for look, name, line, _ in lines:
        _plot(axes, look, depths, [max(row[name], _SMALLEST) for row in line])
        for row in line if name == "paper_error" else ():
            low, high = (max(end, _SMALLEST) for end in row["paper_error_range"])
            axes.plot([row["hidden_layers"]] * 2, [low, high], color=look.color, alpha=0.4)
    axes.set_yscale("log")
    axes.set_xticks(depths)
    axes.set_xlim(depths[0] - 0.3, depths[-1] + 0.45 * (len(depths) - 1) + 0.3)
    title = f"Paper's recursion: error of the diagonal, β = {beta}"
    dress(axes, title=title, x_label="hidden layers", y_label="relative error")
    _label(axes, depths[-1], [(line.look, line.rows[-1][line.name], line.text) for line in lines])


def _error_lines(rows: AppendixRows) -> list[_Line]:
    alphas, last = distinct(rows, "alpha"), max(distinct(rows, "steps"))
    shown = list(dict.fromkeys((alphas[0], middle(alphas), alphas[-1])))
    lines = [
        _Line(look, "paper_error", select(rows, alpha=alpha, steps=0), f"{ALPHA} = {number(alpha)}")
        for look, alpha in zip(LOOKS, shown, strict=False)
    ]
    trained, initial = (select(rows, alpha=alphas[-1], steps=steps) for steps in (last, 0))
    lines.append(_Line(LOOKS[3], "paper_error", trained, f"{lines[-1].text}, trained"))
    lines.append(_Line(Look(GREY, "x", "-"), "full_error", initial, "full matrix"))
    return lines


def _draw_layers(axes: Axes, rows: AppendixRows) -> None:
    """The error of the paper's D in each hidden layer of the deepest network."""
    depth, alpha = max(distinct(rows, "hidden_layers")), middle(distinct(rows, "alpha"))
    line = select(rows, hidden_layers=depth, alpha=alpha, steps=0)
    for row in line:
        errors = [100 * error for error in row["second_derivative_errors"]]
        _plot(axes, _look(row["beta"]), range(1, depth + 1), errors)
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(1, depth + 1))
    axes.set_xlim(0.7 - 0.14 * depth, depth + 0.3)
    title = f"Paper's D = ∂δ/∂z by layer, {count(depth, 'hidden layer')}, {ALPHA} = {number(alpha)}"
    dress(axes, title=title, x_label="hidden layer", y_label="relative error (%)")
    firsts = ((_look(row["beta"]), 100 * row["second_derivative_errors"][0], row) for row in line)
    named = ((look, y, f"β = {row['beta']}") for look, y, row in firsts)
    _label(axes, 0.7 - 0.14 * depth, named)


def _draw_shares(axes: Axes, rows: AppendixRows) -> None:
    """The share of the part with sigma'' against alpha, before, during and after training."""
    depth, steps = middle(distinct(rows, "hidden_layers")), distinct(rows, "steps")
    of_depth, alphas = select(rows, hidden_layers=depth), distinct(rows, "alpha")
    ends = []
    for beta in distinct(rows, "beta"):
        for dashes, at in zip(_DASHES, steps, strict=False):
            line = select(of_depth, beta=beta, steps=at)
            shares = [100 * row["curvature_share"] for row in line]
            _plot(axes, _look(beta)._replace(dashes=dashes), alphas, shares)
            ends += [(_look(beta), shares[-1], f"β = {beta}")] if at != steps[-1] else []
    use_log_x(axes, alphas)
    axes.set_ylim(bottom=0)
    title = f"Share of the {SIGMA}″ part, {count(depth, 'hidden layer')}"
    dress(axes, title=title, x_label=f"{ALPHA} (logarithmic)", y_label="share of |H_kk| (%)")
    _label(axes, alphas[-1], ends)
    _dash_legend(axes, [count(at, "training step") for at in steps])


def _draw_growth(axes: Axes, rows: AppendixRows) -> None:
    """The sizes of both parts at initialisation against alpha."""
    depth, alphas = middle(distinct(rows, "hidden_layers")), distinct(rows, "alpha")
    ends = []
    for beta in distinct(rows, "beta"):
        line = select(rows, beta=beta, steps=0, hidden_layers=depth)
        for dashes, name in zip(_DASHES, ("curvature_rms", "gauss_newton_rms"), strict=False):
            sizes = [row[name] for row in line]
            _plot(axes, _look(beta)._replace(dashes=dashes), alphas, sizes)
            ends += [(_look(beta), sizes[-1], f"β = {beta}")] if name == "curvature_rms" else []
    use_log_x(axes, alphas)
    use_log_y(axes)
    title = f"Size of both parts, {count(depth, 'hidden layer')}, untrained"
    dress(
        axes,
        title=title,
        x_label=f"{ALPHA} (logarithmic)",
        y_label="root mean square over parameters",
    )
    _label(axes, alphas[-1], ends)
    _dash_legend(axes, [f"{SIGMA}″ part", "Gauss-Newton part"])


def _look(beta: int) -> Look:
    return LOOKS[beta % len(LOOKS)]


def _plot(axes: Axes, look: Look, x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(x, y, color=look.color, marker=look.marker, linestyle=look.dashes, markersize=5)


def _label(axes: Axes, x: float, lines: Iterable[tuple[Look, float, str]]) -> None:
    """Names lines beside their ends; the axes must have their limits."""
    place_labels(axes, [Label(text, x, max(y, _SMALLEST), look.color) for look, y, text in lines])


def _dash_legend(axes: Axes, names: Sequence[str]) -> None:
    """What the dashes mean, whatever the colour."""
    keys: list[Any] = [
        Line2D([], [], color=INK, linestyle=dashes, label=name)
        for dashes, name in zip(_DASHES, names, strict=False)
    ]
    axes.legend(handles=keys, loc="best", fontsize=9.5, frameon=False, handlelength=3.0)
