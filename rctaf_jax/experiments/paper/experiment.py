"""What an experiment of the paper is: the networks it needs, and what it shows of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from rich.console import Console

from rctaf_jax.experiments.results.rows import Results
from rctaf_jax.experiments.sweep.members import Entry, members

from .scales import Scale

Record = dict[str, Any]
FAMILY = (0, 1, 2)


class Part(NamedTuple):
    """Members of one study.

    Attributes:
      study: name in the scale's table.
      label: of its line in a figure.
      entries: the members that the experiment shows.
    """

    study: str
    label: str
    entries: Sequence[Entry]


class Shown(NamedTuple):
    """A part's results: those of its entries that are there."""

    label: str
    results: Results


class Grid(NamedTuple):
    """A table of words."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Exhibit(NamedTuple):
    """What an experiment ends with.

    Attributes:
      figure: written as PNG and SVG.
      panels: the same, a panel each, for the page.
      records: a line each of the CSV file.
      table: for the page and the terminal.
      remarks: sentences to mind.
    """

    figure: Figure
    panels: Sequence[Figure]
    records: Sequence[Record]
    table: Grid
    remarks: Sequence[str] = ()


class Own(NamedTuple):
    """Measurements of an experiment that are not of trained networks.

    Attributes:
      estimate: `(scale, folder)` to the seconds that `run` will take.
      run: `(scale, folder, console)`; keeps what it has in the folder, and goes on from there.
    """

    estimate: Callable[[Scale, Path], float]
    run: Callable[[Scale, Path, Console], None]


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
    parts: Callable[[Scale], Sequence[Part]]
    show: Callable[[Mapping[str, Shown], Path], Exhibit]
    own: Own | None = None


def no_parts(scale: Scale) -> Sequence[Part]:
    """For experiments without trained networks."""
    return ()


def family_part(study: str, label: str, scale: Scale, betas: Sequence[int]) -> Part:
    """Members of the family at the scale's curvatures."""
    texts = [f"rct-af:beta={b},curvature={c}" for b in betas for c in scale.curvatures]
    return Part(study, label, members(texts, scale.seeds))
