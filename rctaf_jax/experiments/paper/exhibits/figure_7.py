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
    draw_panel,
    series_by_family,
)

from .curves import exhibit_of

_STUDY = "standard"


def _parts(scale: ExperimentScale) -> Sequence[Part]:
    """All three betas."""
    return [family_part(_STUDY, "standard training", scale, FAMILY_BETAS)]


def _show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """The two panels, in the paper's order."""
    series = series_by_family(shown[_STUDY].results.rows)
    panels = [
        partial(draw_panel, series, quantity, MAX_CURVATURE)
        for quantity in (HESSIAN_NORM, CLEAN_ACCURACY)
    ]
    return exhibit_of(panels, shown, with_hessian=True)


EXPERIMENT = Experiment(
    "figure-7",
    "Figure 7: sharpness of the loss, and clean accuracy",
    "After standard training the Hessian norm is lowest between 4 and 10 and rises on both sides; "
    "below 4 clean accuracy falls.",
    _parts,
    _show,
)
