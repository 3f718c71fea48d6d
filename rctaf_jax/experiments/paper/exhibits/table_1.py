"""Table 1: common activations against the family at a curvature of 7, DAJAT."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from rctaf_jax.activations import parse_activation
from rctaf_jax.experiments.paper.differences import less_reference
from rctaf_jax.experiments.paper.experiment import Exhibit, Experiment, Part, Shown
from rctaf_jax.experiments.paper.scales import ExperimentScale
from rctaf_jax.experiments.results.phrasing import accuracy_short
from rctaf_jax.experiments.results.rows import Results
from rctaf_jax.experiments.results.summary import IntervalEstimate, Summary, summarise
from rctaf_jax.experiments.show.dot_plot import Dot, dots_figure
from rctaf_jax.experiments.show.tables import TextTable
from rctaf_jax.experiments.show.wording import CURVATURE, family_label, network_label, number
from rctaf_jax.experiments.sweep.members import members_of

from .curves import records, remarks

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
PAPER_SETTING = "CIFAR-10, ResNet-18, DAJAT, AutoAttack"
REFERENCE = "relu"
_Quantity = Literal["clean_correct", "robust_correct"]


def _parts(scale: ExperimentScale) -> Sequence[Part]:
    """The paper's nine activations."""
    members = members_of(list(PAPER_ACCURACIES), scale.seeds)
    return [Part(study, study, members) for study in scale.shows["table-1"]]


def _show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """Accuracies beside the paper's, and a figure of what each gains over ReLU."""
    (part,) = shown.values()
    results = part.results
    found = {summary.activation: summary for summary in summarise(results.rows)}
    rows = [_cells(text, found.get(parse_activation(text).text)) for text in PAPER_ACCURACIES]
    columns = ["activation", "clean %", "paper", "robust %", "paper", CURVATURE, "paper"]
    remark = (
        f"Here: {_setting(results)}. The paper: {PAPER_SETTING}. Accuracies of the two are not "
        f"comparable; the figure has what each gains over {family_label(REFERENCE)}'s."
    )
    return Exhibit(
        _figure(results),
        records(shown),
        TextTable(columns, rows),
        [remark, *remarks(shown)],
    )


def _cells(text: str, summary: Summary | None) -> list[str]:
    """An activation's line of the table."""
    activation, (paper_clean, paper_robust) = parse_activation(text), PAPER_ACCURACIES[text]
    curvature = activation.curvature
    return [
        family_label(activation.name),
        accuracy_short(summary.clean if summary else None),
        f"{paper_clean:.2f}",
        accuracy_short(summary.robust if summary else None),
        f"{paper_robust:.2f}",
        number(curvature.value),
        number(curvature.paper_value or curvature.value),
    ]


def _figure(results: Results) -> Figure:
    """Differences from ReLU's accuracies, here and in the paper, both in points."""
    panels = [
        (title, f"points above {family_label(REFERENCE)}'s", _dots(results, place))
        for place, title in enumerate(("Clean accuracy", "Robust accuracy"))
    ]
    data = results.data["name"]
    return dots_figure(panels, reference=0.0, here=f"here ({data})", paper="paper (CIFAR-10)")


def _dots(results: Results, place: int) -> list[Dot]:
    """A line for each activation but ReLU; clean accuracy is at place 0, robust at 1."""
    reference = parse_activation(REFERENCE).text
    quantity: _Quantity = "robust_correct" if place else "clean_correct"
    gains = less_reference(results.rows, reference, quantity)
    base = PAPER_ACCURACIES[REFERENCE][place]
    return [
        _dot(
            family_label(parse_activation(text).name),
            gains.get(parse_activation(text).text),
            paper[place] - base,
        )
        for text, paper in PAPER_ACCURACIES.items()
        if text != REFERENCE
    ]


def _dot(label: str, estimate: IntervalEstimate | None, paper: float) -> Dot:
    if estimate is None:
        return Dot(label, paper=paper)
    if not estimate.has_interval:
        return Dot(label, 100 * estimate.mean, paper=paper)
    return Dot(label, 100 * estimate.mean, 100 * estimate.low, 100 * estimate.high, paper)


def _setting(results: Results) -> str:
    config = results.config
    attack = {"pgd": f"PGD-{config.evaluation.pgd_steps}", "autoattack": "AutoAttack"}
    network = network_label(config.train.model, config.train.width)
    method = config.train.method.upper()
    return f"{results.data['name']}, {network}, {method}, {attack[config.evaluation.attack]}"


EXPERIMENT = Experiment(
    "table-1",
    "Table 1: activations compared",
    "The family at curvature 7 reaches 54.5 to 54.8% robust accuracy, the best common activation, "
    "GELU, 51.7% (CIFAR-10, ResNet-18, DAJAT, AutoAttack; single runs).",
    _parts,
    _show,
)
