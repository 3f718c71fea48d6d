"""Table 1: common activations against the family at a curvature of 7, DAJAT."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rctaf_jax.activations import parse_activation
from rctaf_jax.experiments.paper.experiment import Exhibit, Experiment, Part, Shown
from rctaf_jax.experiments.paper.scales import ExperimentScale
from rctaf_jax.experiments.results.phrasing import accuracy_short
from rctaf_jax.experiments.results.summary import IntervalEstimate, summarise
from rctaf_jax.experiments.show.dot_plot import Dot, dots_figure
from rctaf_jax.experiments.show.tables import TextTable
from rctaf_jax.experiments.show.wording import CURVATURE, family_label, number
from rctaf_jax.experiments.sweep.members import members_of

from .curves import records, remarks

_STUDY = "dajat"
PAPER_ACCURACIES = {
    "relu": (85.23, 51.37),
    "leaky-relu": (84.52, 51.24),
    "elu": (78.39, 43.11),
    "gelu": (84.88, 51.69),
    "swish": (82.53, 48.08),
    "mish": (82.63, 48.75),
    "rct-af:beta=0,curvature=7": (86.65, 54.57),
    "rct-af:beta=1,curvature=7": (87.24, 54.79),
    "rct-af:beta=2,curvature=7": (86.08, 54.49),
}
"""Activation to the paper's clean and robust accuracy in per cent."""


def _parts(scale: ExperimentScale) -> Sequence[Part]:
    """The paper's nine activations."""
    return [Part(_STUDY, "DAJAT", members_of(list(PAPER_ACCURACIES), scale.seeds))]


def _show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """Accuracies beside the paper's."""
    found = {summary.activation: summary for summary in summarise(shown[_STUDY].results.rows)}
    listed = [
        (parse_activation(text), found.get(parse_activation(text).text), paper)
        for text, paper in PAPER_ACCURACIES.items()
    ]
    rows, clean, robust = [], [], []
    for activation, summary, (paper_clean, paper_robust) in listed:
        label = family_label(activation.name)
        curvature = activation.curvature
        printed = curvature.paper_value or curvature.value
        estimates = (summary.clean, summary.robust) if summary else (None, None)
        rows.append(
            [
                label,
                accuracy_short(estimates[0]),
                f"{paper_clean:.2f}",
                accuracy_short(estimates[1]),
                f"{paper_robust:.2f}",
                number(curvature.value),
                number(printed),
            ]
        )
        clean.append(_dot(label, estimates[0], paper_clean))
        robust.append(_dot(label, estimates[1], paper_robust))
    columns = ["activation", "clean %", "paper", "robust %", "paper", CURVATURE, "paper"]
    panels = [("Clean accuracy", "%", clean), ("Robust accuracy", "%", robust)]
    return Exhibit(dots_figure(panels), records(shown), TextTable(columns, rows), remarks(shown))


def _dot(label: str, estimate: IntervalEstimate | None, paper: float) -> Dot:
    if estimate is None:
        return Dot(label, paper=paper)
    if not estimate.has_interval:
        return Dot(label, 100 * estimate.mean, paper=paper)
    return Dot(label, 100 * estimate.mean, 100 * estimate.low, 100 * estimate.high, paper)


EXPERIMENT = Experiment(
    "table-1",
    "Table 1: activations compared",
    "The family at curvature 7 reaches 54.5 to 54.8% robust accuracy, the best common activation, "
    "GELU, 51.7% (CIFAR-10, ResNet-18, DAJAT, AutoAttack; single runs).",
    _parts,
    _show,
)
