"""Figures that need no training: graphs of the family, with its curvatures as a table."""

from collections.abc import Mapping
from pathlib import Path

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.activations.curvature import curvature_extrema
from rctaf_jax.experiments.paper.experiment import (
    Exhibit,
    Experiment,
    Record,
    Shown,
    no_parts,
)
from rctaf_jax.experiments.show.activation_figure import activation_figure
from rctaf_jax.experiments.show.tables import TextTable
from rctaf_jax.experiments.show.wording import ALPHA, CURVATURE, family_label, number

ALPHAS = (1, 5, 10, 15, 20)
BETAS = (0, 1, 2)


def family_drawing(name: str, title: str, paper: str, *, derivative_order: int) -> Experiment:
    """An experiment that draws the paper's members of the family.

    Args:
      name, title, paper: as in `Experiment`.
      derivative_order: 0 for the functions, 2 for their second derivatives.
    """

    def show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
        texts = [f"rct-af:beta={beta},alpha={alpha}" for beta in BETAS for alpha in ALPHAS]
        activations = [parse_activation(text) for text in texts]
        records = [_record(activation) for activation in activations]
        rows = [
            [family_label(str(r["family"])), *map(number, list(r.values())[1:])] for r in records
        ]
        columns = ["activation", ALPHA, CURVATURE, "extrema of the second derivative"]
        figure = activation_figure(activations, derivative_order)
        return Exhibit(figure, records, TextTable(columns, rows))

    return Experiment(name, title, paper, no_parts, show)


def _record(activation: Activation) -> Record:
    return {
        "family": activation.name,
        "alpha": activation.alpha,
        "max_curvature": activation.max_curvature,
        "num_extrema": len(curvature_extrema(activation.beta or 0)),
    }
