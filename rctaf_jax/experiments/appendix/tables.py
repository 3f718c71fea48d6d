"""The tables of `rctaf validate-appendix`; all numbers are medians over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rctaf_jax.experiments.show.wording import ALPHA, CURVATURE, SIGMA, number

AppendixRows = Sequence[Mapping[str, Any]]


def select(rows: AppendixRows, **wanted: Any) -> list[Mapping[str, Any]]:
    """The rows that have these values.

    Example:
      >>> select([{"beta": 0, "alpha": 1}, {"beta": 1, "alpha": 1}], beta=1)
      [{'beta': 1, 'alpha': 1}]
    """
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def distinct(rows: AppendixRows, name: str) -> list[Any]:
    """The values of a column, ascending.

    Example:
      >>> distinct([{"beta": 1}, {"beta": 0}, {"beta": 1}], "beta")
      [0, 1]
    """
    return sorted({row[name] for row in rows})


def middle(values: Sequence[Any]) -> Any:
    """The value in the middle, the upper of two.

    Example:
      >>> middle([1, 2, 5, 10, 20])
      5
    """
    return values[len(values) // 2]


def error_table(rows: AppendixRows) -> Table:
    """Relative error of the diagonal, by beta, depth and alpha."""
    alphas, last = distinct(rows, "alpha"), max(distinct(rows, "steps"))
    headings = [f"{ALPHA} = {number(alpha)}" for alpha in alphas]
    table = _table(
        "Relative error of the diagonal: the paper's recursion, (28) and (32)",
        "β",
        "hidden layers",
        *headings,
        "trained",
        "full matrix",
    )
    for beta in distinct(rows, "beta"):
        for depth in distinct(rows, "hidden_layers"):
            here = select(rows, beta=beta, hidden_layers=depth)
            initial = select(here, steps=0)
            table.add_row(
                str(beta),
                str(depth),
                *(_error(row["paper_error"]) for row in initial),
                _error(max(row["paper_error"] for row in select(here, steps=last))),
                _error(max(row["full_error"] for row in here)),
            )
    table.caption = Text(
        f"Against autodiff, at initialisation; trained: the largest over {ALPHA} after {last} "
        f"steps; full matrix: the largest over {ALPHA} and training."
    )
    return table


def layer_table(rows: AppendixRows) -> Table:
    """Relative error of the paper's D and of its diagonal, layer by layer, at the largest depth."""
    depth, alpha = max(distinct(rows, "hidden_layers")), middle(distinct(rows, "alpha"))
    layers = [f"layer {layer + 1}" for layer in range(depth)]
    title = f"Layer by layer: {depth} hidden layers, {ALPHA} = {number(alpha)}, initialisation"
    table = _table(title, "β", "of", *layers)
    for row in select(rows, hidden_layers=depth, alpha=alpha, steps=0):
        for name, errors in (
            ("D", row["second_derivative_errors"]),
            ("H_kk", row["paper_layer_errors"][:-1]),
        ):
            table.add_row(str(row["beta"]), name, *map(_error, errors))
    return table


def growth_table(rows: AppendixRows) -> Table:
    """Size of H_kk and the share of its part with sigma'', by beta and alpha."""
    depth, all_steps = middle(distinct(rows, "hidden_layers")), distinct(rows, "steps")
    shares = [f"% at {steps}" for steps in all_steps]
    title = f"Size of H_kk, and share of its part with {SIGMA}″: {depth} hidden layers"
    parts = ("rms H_kk", "Gauss-Newton", f"{SIGMA}″ part")
    table = _table(title, "β", ALPHA, CURVATURE, *parts, *shares)
    for beta in distinct(rows, "beta"):
        for alpha in distinct(rows, "alpha"):
            here = select(rows, beta=beta, alpha=alpha, hidden_layers=depth)
            (first,) = select(here, steps=0)
            table.add_row(
                str(beta),
                number(alpha),
                number(first["max_curvature"]),
                *(f"{first[f'{part}rms']:.3f}" for part in ("", "gauss_newton_", "curvature_")),
                *(f"{100 * row['curvature_share']:.2g}" for row in here),
            )
    table.caption = Text(
        "Sizes are root mean squares (8) at initialisation. % at a training step: the sum of "
        f"|{SIGMA}″ part| over the sum of both parts' absolute values."
    )
    return table


def _error(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _table(title: str, *columns: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
    )
    for column in columns:
        table.add_column(column, justify="right")
    return table
