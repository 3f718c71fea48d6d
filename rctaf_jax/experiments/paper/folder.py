"""The folder of a reproduction: studies that experiments share, and what each experiment shows.

reproduction.json            the scale, and the experiments that were asked for
studies/<study>/             a results folder each, as `rctaf sweep` writes it
<experiment>/figure.png, figure.svg, rows.csv
claims.csv, report.html
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.studies import REPRODUCTION, is_reproduction
from rctaf_jax.experiments.sweep.members import SweepMember
from rctaf_jax.files import is_free, write_json
from rctaf_jax.typed_json import read_typed

from .experiment import Experiment
from .registry import EXPERIMENTS
from .scales import ExperimentScale, scale_named


@dataclasses.dataclass(frozen=True)
class _Reproduction:
    """reproduction.json."""

    scale: str
    experiments: list[str]


def claim_reproduction(
    folder: Path, scale: ExperimentScale, experiments: Sequence[Experiment]
) -> None:
    """Make the folder, or add to it what is asked for now.

    Raises:
      InputError: if it is another scale's, or something else.
    """
    known: list[str] = []
    if is_reproduction(folder):
        stated = read_typed(folder / REPRODUCTION, _Reproduction)
        known = stated.experiments
        if stated.scale != scale.name:
            raise InputError(
                f"{folder} is of scale {stated.scale}, this command of {scale.name}: choose "
                "another --output."
            )
    elif folder.exists() and not is_free(folder):
        raise InputError(f"{folder} is in the way and no reproduction: choose another --output.")
    folder.mkdir(parents=True, exist_ok=True)
    asked = {*known, *(experiment.name for experiment in experiments)}
    names = [name for name in EXPERIMENTS if name in asked]
    write_json(folder / REPRODUCTION, {"scale": scale.name, "experiments": names})


def open_reproduction(folder: Path) -> tuple[ExperimentScale, list[Experiment]]:
    """The scale of a folder, and those of its experiments that have something to show.

    Raises:
      InputError: if it is no reproduction, or its file cannot be read.
    """
    if not is_reproduction(folder):
        raise InputError(
            f"{folder} is not the folder of `rctaf reproduce`: it has no {REPRODUCTION}."
        )
    stated = read_typed(folder / REPRODUCTION, _Reproduction)
    scale = scale_named(stated.scale, None)
    listed = [EXPERIMENTS[name] for name in stated.experiments if name in EXPERIMENTS]
    return scale, [one for one in listed if (folder / one.name / "rows.csv").is_file()]


def needed_members(
    experiments: Sequence[Experiment], scale: ExperimentScale
) -> dict[str, list[SweepMember]]:
    """Every member that some experiment needs, by study, each once."""
    studies: dict[str, dict[str, SweepMember]] = {}
    for experiment in experiments:
        for part in experiment.parts(scale):
            studies.setdefault(part.study, {}).update({one.id: one for one in part.members})
    return {study: list(members.values()) for study, members in studies.items()}
