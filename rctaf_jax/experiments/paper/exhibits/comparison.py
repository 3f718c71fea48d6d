"""Figures 4 to 6: robust accuracy against curvature, beta 1, a line for each of several studies."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rctaf_jax.config import SweepConfig
from rctaf_jax.experiments.paper.experiment import Exhibit, Experiment, Part, Shown, family_part
from rctaf_jax.experiments.paper.scales import ExperimentScale
from rctaf_jax.experiments.results.figures import MAX_CURVATURE, ROBUST_ACCURACY, draw_panel

from .curves import by_study, exhibit_of, relabelled


def comparison(
    name: str, title: str, paper: str, label: Callable[[SweepConfig], str]
) -> Experiment:
    """An experiment whose lines are studies.

    Args:
      name, title, paper: as in `Experiment`.
      label: of a study's line, from what its networks were trained as.
    """

    def parts(scale: ExperimentScale) -> Sequence[Part]:
        return [family_part(study, study, scale, [1]) for study in scale.shows[name]]

    def show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
        labelled = relabelled(shown, label)
        panel = partial(draw_panel, by_study(labelled), ROBUST_ACCURACY, MAX_CURVATURE)
        return exhibit_of([panel], labelled)

    return Experiment(name, title, paper, parts, show)


def method_label(config: SweepConfig) -> str:
    """A training method as the paper writes it."""
    return config.train.method.upper()
