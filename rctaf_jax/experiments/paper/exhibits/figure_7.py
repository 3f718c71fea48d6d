"""Figure 7: the Hessian norm and clean accuracy after standard training, three betas."""

from collections.abc import Mapping, Sequence
from functools import partial
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
from rctaf_jax.experiments.results.figures import (
    CLEAN_ACCURACY,
    HESSIAN_NORM,
    MAX_CURVATURE,
    Panel,
    draw_panel,
    series_by_family,
)
from rctaf_jax.experiments.show.wording import network_label

from .curves import exhibit_of, relabelled, setting_label, titled


def _parts(scale: ExperimentScale) -> Sequence[Part]:
    """All three betas."""
    return [family_part(study, study, scale, FAMILY_BETAS) for study in scale.shows["figure-7"]]


def _show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """The two panels of each study, in the paper's order."""
    labelled = relabelled(shown, setting_label)
    panels: list[Panel] = []
    for part in labelled.values():
        series = series_by_family(part.results.rows)
        for quantity in (HESSIAN_NORM, CLEAN_ACCURACY):
            panel = partial(draw_panel, series, quantity, MAX_CURVATURE)
            title = f"{quantity.title}: {network_label(*_network(part))}"
            panels.append(titled(panel, title) if len(labelled) > 1 else panel)
    return exhibit_of(panels, labelled, with_hessian=True)


def _network(part: Shown) -> tuple[str, float]:
    return part.results.config.train.model, part.results.config.train.width


EXPERIMENT = Experiment(
    "figure-7",
    "Figure 7: sharpness of the loss, and clean accuracy",
    "After standard training the Hessian norm is lowest between 4 and 10 and rises on both sides; "
    "below 4 clean accuracy falls.",
    _parts,
    _show,
)
