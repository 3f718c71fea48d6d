"""Figures 4 to 6: robust accuracy against curvature, beta 1, a line for each of several studies."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rctaf_jax.experiments.paper.experiment import Exhibit, Experiment, Part, Shown, family_part
from rctaf_jax.experiments.paper.scales import ExperimentScale
from rctaf_jax.experiments.results.figures import MAX_CURVATURE, ROBUST_ACCURACY, draw_panel

from .curves import by_study, exhibit_of


def comparison(name: str, title: str, paper: str, studies: Mapping[str, str]) -> Experiment:
    """An experiment whose lines are studies.

    Args:
      name, title, paper: as in `Experiment`.
      studies: names of studies and the labels of their lines.
    """

    def parts(scale: ExperimentScale) -> Sequence[Part]:
        return [family_part(study, label, scale, [1]) for study, label in studies.items()]

    def show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
        panel = partial(draw_panel, by_study(shown), ROBUST_ACCURACY, MAX_CURVATURE)
        return exhibit_of([panel], shown)

    return Experiment(name, title, paper, parts, show)
