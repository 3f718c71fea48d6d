"""Figure 3: robust accuracy against alpha and against curvature, DAJAT, three betas."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rctaf_jax.experiments.paper.experiment import (
    FAMILY_BETAS,
    Exhibit,
    Experiment,
    Part,
    Shown,
    family_part,
)
from rctaf_jax.experiments.paper.scales import ExperimentScale
from rctaf_jax.experiments.results.figures import robustness_panels
from rctaf_jax.experiments.sweep.members import members_of

from .curves import exhibit_of

_STUDY = "dajat"


def _parts(scale: ExperimentScale) -> Sequence[Part]:
    """All three betas: at the scale's alphas where it has some, as in the paper's caption."""
    if not scale.alphas:
        return [family_part(_STUDY, "DAJAT", scale, FAMILY_BETAS)]
    texts = [f"rct-af:beta={beta},alpha={alpha}" for beta in FAMILY_BETAS for alpha in scale.alphas]
    return [Part(_STUDY, "DAJAT", members_of(texts, scale.seeds))]


def _show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """The two panels."""
    return exhibit_of(robustness_panels(shown[_STUDY].results.rows), shown)


EXPERIMENT = Experiment(
    "figure-3",
    "Figure 3: robustness against alpha, and against curvature",
    "Against alpha the three curves differ; against curvature they nearly overlap below 15, and "
    "all peak between 4 and 10 (CIFAR-10, ResNet-18, DAJAT, AutoAttack).",
    _parts,
    _show,
)
