"""Figure 3: robust accuracy against alpha and against curvature, DAJAT, three betas."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rctaf_jax.experiments.paper.experiment import (
    FAMILY,
    Exhibit,
    Experiment,
    Part,
    Shown,
    family_part,
)
from rctaf_jax.experiments.paper.scales import Scale
from rctaf_jax.experiments.results.figures import by_family, robustness_panels
from rctaf_jax.experiments.sweep.members import members

from .curves import exhibit_of

STUDY = "dajat"


def parts(scale: Scale) -> Sequence[Part]:
    """All three betas: at the scale's alphas where it has some, as in the paper's caption."""
    if not scale.alphas:
        return [family_part(STUDY, "DAJAT", scale, FAMILY)]
    texts = [f"rct-af:beta={beta},alpha={alpha}" for beta in FAMILY for alpha in scale.alphas]
    return [Part(STUDY, "DAJAT", members(texts, scale.seeds))]


def show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """The two panels."""
    panels = robustness_panels(by_family(shown[STUDY].results.rows))
    return exhibit_of(list(panels.values()), shown)


EXPERIMENT = Experiment(
    "figure-3",
    "Figure 3: robustness against alpha, and against curvature",
    "Against alpha the three curves differ; against curvature they nearly overlap below 15, and "
    "all peak between 4 and 10 (CIFAR-10, ResNet-18, DAJAT, AutoAttack).",
    parts,
    show,
)
