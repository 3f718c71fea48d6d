"""Figure 7: the Hessian norm and clean accuracy after standard training, three betas."""

from collections.abc import Mapping, Sequence
from functools import partial
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
from rctaf_jax.experiments.results.figures import (
    CLEAN,
    HESSIAN_NORM,
    MAX_CURVATURE,
    by_family,
    draw_panel,
)

from .curves import exhibit_of

STUDY = "standard"


def parts(scale: Scale) -> Sequence[Part]:
    """All three betas."""
    return [family_part(STUDY, "standard training", scale, FAMILY)]


def show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """The two panels, in the paper's order."""
    series = by_family(shown[STUDY].results.rows)
    panels = [
        partial(draw_panel, series, quantity, MAX_CURVATURE) for quantity in (HESSIAN_NORM, CLEAN)
    ]
    return exhibit_of(panels, shown, with_hessian=True)


EXPERIMENT = Experiment(
    "figure-7",
    "Figure 7: sharpness of the loss, and clean accuracy",
    "After standard training the Hessian norm is lowest between 4 and 10 and rises on both sides; "
    "below 4 clean accuracy falls.",
    parts,
    show,
)
