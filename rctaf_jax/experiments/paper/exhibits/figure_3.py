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

from .curves import exhibit_of, relabelled, setting_label, titled


def _parts(scale: ExperimentScale) -> Sequence[Part]:
    """All three betas: at the scale's alphas where it has some, as in the paper's caption."""
    studies = scale.shows["figure-3"]
    if not scale.alphas:
        return [family_part(study, study, scale, FAMILY_BETAS) for study in studies]
    texts = [f"rct-af:beta={beta},alpha={alpha}" for beta in FAMILY_BETAS for alpha in scale.alphas]
    return [Part(study, study, members_of(texts, scale.seeds)) for study in studies]


def _show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """The paper's two panels of the first study, and the second of each other."""
    labelled = relabelled(shown, setting_label)
    first, *others = labelled.values()
    panels = robustness_panels(first.results.rows)
    if others:
        panels[1] = titled(panels[1], first.label)
    for part in others:
        panels.append(titled(robustness_panels(part.results.rows)[1], part.label))
    return exhibit_of(panels, labelled)


EXPERIMENT = Experiment(
    "figure-3",
    "Figure 3: robustness against alpha, and against curvature",
    "Against alpha the three curves differ; against curvature they nearly overlap below 15, and "
    "all peak between 4 and 10 (CIFAR-10, ResNet-18, DAJAT, AutoAttack).",
    _parts,
    _show,
)
