"""The experiments by name: adding one is a file with an `EXPERIMENT`, and a line here."""

from collections.abc import Sequence

from rctaf_jax.errors import InputError

from .exhibits import (
    figure_1,
    figure_2,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    table_1,
    table_2,
)
from .experiment import Experiment
from .scales import ExperimentScale

_MODULES = (
    figure_1,
    figure_2,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    table_1,
    table_2,
)
EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES
}
ALL = "all"


def experiments_named(names: Sequence[str]) -> list[Experiment]:
    """Experiments in the paper's order, each once.

    Raises:
      InputError: for a name that is not in the table, or none.
    """
    unknown = [name for name in names if name not in EXPERIMENTS and name != ALL]
    if unknown or not names:
        received = f"unknown experiment {unknown[0]!r}" if unknown else "no experiment was named"
        raise InputError(f"{received}: choose from {', '.join([*EXPERIMENTS, ALL])}.")
    return [one for name, one in EXPERIMENTS.items() if ALL in names or name in names]


def lacks(experiment: Experiment, scale: ExperimentScale) -> list[str]:
    """Studies that an experiment needs and a scale does not have."""
    return [part.study for part in experiment.parts(scale) if part.study not in scale.studies]
