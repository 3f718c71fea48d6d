"""What an experiment of the paper is: the networks it needs, and what it shows of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich.console import Console

from rctaf_jax.experiments.results.rows import Results
from rctaf_jax.experiments.show.tables import TextTable
from rctaf_jax.experiments.sweep.members import SweepMember, members_of

from .scales import ExperimentScale

Record = dict[str, Any]
FAMILY_BETAS = (0, 1, 2)


class Part(NamedTuple):
    """Members of one study.

    Attributes:
      study: name in the scale's table.
      label: of its line in a figure.
      members: those that the experiment shows.
    """

    study: str
    label: str
    members: Sequence[SweepMember]


class Shown(NamedTuple):
    """A part's results: those of its members that are there."""

    label: str
    results: Results


class Exhibit(NamedTuple):
    """What an experiment ends with.

    Attributes:
      figure: written as PNG and SVG; the page shows its panels.
      records: a line each of the CSV file.
      table: for the page and the terminal.
      remarks: sentences to mind.
    """

    figure: Figure
    records: Sequence[Record]
    table: TextTable
    remarks: Sequence[str] = ()


class Own(NamedTuple):
    """Measurements of an experiment that are not of trained networks.

    Attributes:
      estimate: `(scale, folder)` to the seconds that `run` will take.
      run: `(scale, folder, console)`; keeps what it has in the folder, and goes on from there.
    """

    estimate: Callable[[ExperimentScale, Path], float]
    run: Callable[[ExperimentScale, Path, Console], None]


class Experiment(NamedTuple):
    """A figure or table of the paper.

    Attributes:
      name: on the command line, such as "figure-3".
      title: of its section.
      paper: what the paper reports, in a sentence or two.
      parts: the networks it needs at a scale.
      show: `(results by study, its own folder)` to what is shown.
      own: further measurements.
    """

    name: str
    title: str
    paper: str
    parts: Callable[[ExperimentScale], Sequence[Part]]
    show: Callable[[Mapping[str, Shown], Path], Exhibit]
    own: Own | None = None


def no_parts(scale: ExperimentScale) -> Sequence[Part]:
    """For experiments without trained networks."""
    return ()


def family_part(study: str, label: str, scale: ExperimentScale, betas: Sequence[int]) -> Part:
    """Members of the family at the scale's curvatures."""
    texts = [f"rct-af:beta={b},curvature={c}" for b in betas for c in scale.curvatures]
    return Part(study, label, members_of(texts, scale.seeds))
