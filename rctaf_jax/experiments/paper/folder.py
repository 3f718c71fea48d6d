"""The folder of a reproduction: studies that experiments share, and what each experiment shows.

reproduction.json            the scale, and the experiments that were asked for
studies/<study>/             a results folder each, as `rctaf sweep` writes it
<experiment>/figure.png, figure.svg, rows.csv
claims.csv, report.html
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.rows import Results, load_results
from rctaf_jax.experiments.sweep.members import Entry
from rctaf_jax.files import is_free, read_json, write_json

from .experiment import Experiment, Part, Shown
from .registry import EXPERIMENTS
from .scales import Scale, scale_named

FILE = "reproduction.json"
STUDIES = "studies"


def is_reproduction(folder: Path) -> bool:
    """Whether a folder is one."""
    return (folder / FILE).is_file()


def claim_reproduction(folder: Path, scale: Scale, experiments: Sequence[Experiment]) -> None:
    """Make the folder, or add to it what is asked for now.

    Raises:
      InputError: if it is another scale's, or something else.
    """
    stated: dict[str, Any] = {"scale": scale.name, "experiments": []}
    if is_reproduction(folder):
        stated = read_json(folder / FILE)
        if stated.get("scale") != scale.name:
            raise InputError(
                f"{folder} is of scale {stated.get('scale')}, this command of {scale.name}: choose "
                "another --output."
            )
    elif folder.exists() and not is_free(folder):
        raise InputError(f"{folder} is in the way and no reproduction: choose another --output.")
    folder.mkdir(parents=True, exist_ok=True)
    asked = {*stated["experiments"], *(experiment.name for experiment in experiments)}
    stated["experiments"] = [name for name in EXPERIMENTS if name in asked]
    write_json(folder / FILE, stated)


def open_reproduction(folder: Path) -> tuple[Scale, list[Experiment]]:
    """The scale of a folder, and those of its experiments that have something to show.

    Raises:
      InputError: if it is no reproduction.
    """
    if not is_reproduction(folder):
        raise InputError(f"{folder} is not the folder of `rctaf reproduce`: it has no {FILE}.")
    stated = read_json(folder / FILE)
    scale = scale_named(stated["scale"], None)
    listed = [EXPERIMENTS[name] for name in stated["experiments"] if name in EXPERIMENTS]
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
