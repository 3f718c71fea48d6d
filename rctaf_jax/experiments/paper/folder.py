"""The folder of a reproduction: studies that experiments share, and what each experiment shows.

reproduction.json            the scale, and the experiments that were asked for
studies/<study>/             a results folder each, as `rctaf sweep` writes it
<experiment>/figure.png, figure.svg, rows.csv
claims.csv, report.html
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.rows import Results, load_results
from rctaf_jax.experiments.sweep.members import Entry
from rctaf_jax.files import write_json
from rctaf_jax.typed_json import read_typed

from .experiment import Experiment, Part, Shown
from .registry import EXPERIMENTS
from .scales import Scale, scale_named

FILE = "reproduction.json"
STUDIES = "studies"


@dataclasses.dataclass(frozen=True)
class _Reproduction:
    """reproduction.json."""

    scale: str
    experiments: list[str]


def is_reproduction(folder: Path) -> bool:
    """Whether a folder is one."""
    return (folder / FILE).is_file()


def claim_reproduction(folder: Path, scale: Scale, experiments: Sequence[Experiment]) -> None:
    """Make the folder, or add to it what is asked for now.

    Raises:
      InputError: if it is another scale's, or something else.
    """
    known: list[str] = []
    if is_reproduction(folder):
        stated = read_typed(folder / FILE, _Reproduction)
        known = stated.experiments
        if stated.scale != scale.name:
            raise InputError(
                f"{folder} is of scale {stated.scale}, this command of {scale.name}: choose "
                "another --output."
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is in the way and no reproduction: choose another --output.")
    folder.mkdir(parents=True, exist_ok=True)
    asked = {*known, *(experiment.name for experiment in experiments)}
    names = [name for name in EXPERIMENTS if name in asked]
    write_json(folder / FILE, {"scale": scale.name, "experiments": names})


def open_reproduction(folder: Path) -> tuple[Scale, list[Experiment]]:
    """The scale of a folder, and those of its experiments that have something to show.

    Raises:
      InputError: if it is no reproduction, or its file cannot be read.
    """
    if not is_reproduction(folder):
        raise InputError(f"{folder} is not the folder of `rctaf reproduce`: it has no {FILE}.")
    stated = read_typed(folder / FILE, _Reproduction)
    scale = scale_named(stated.scale, None)
    listed = [EXPERIMENTS[name] for name in stated.experiments if name in EXPERIMENTS]
    return scale, [one for one in listed if (folder / one.name / "rows.csv").is_file()]


def study_folder(folder: Path, study: str) -> Path:
    """Where a study's networks are."""
    return folder / STUDIES / study


def study_folders(folder: Path) -> list[Path]:
    """Every study that has a network."""
    return sorted({path.parents[2] for path in folder.glob(f"{STUDIES}/*/members/*/row.json")})


def wanted(experiments: Sequence[Experiment], scale: Scale) -> dict[str, list[Entry]]:
    """Every member that some experiment needs, by study, each once."""
    studies: dict[str, dict[str, Entry]] = {}
    for experiment in experiments:
        for part in experiment.parts(scale):
            studies.setdefault(part.study, {}).update({e.id: e for e in part.entries})
    return {study: list(entries.values()) for study, entries in studies.items()}


def show_parts(folder: Path, experiment: Experiment, scale: Scale) -> Mapping[str, Shown]:
    """An experiment's results, other experiments' members left out."""
    return {
        part.study: Shown(
            part.label, restricted(load_results(study_folder(folder, part.study)), part)
        )
        for part in experiment.parts(scale)
    }


def restricted(results: Results, part: Part) -> Results:
    """A study's results without the members that a part does not have."""
    ids = {entry.id for entry in part.entries}
    rows = tuple(row for row in results.rows if row.id in ids)
    missing = tuple(sorted(ids - {row.id for row in rows}))
    return results._replace(rows=rows, num_expected=len(ids), missing=missing)
