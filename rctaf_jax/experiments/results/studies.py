"""Studies: networks that differ in activation and seed only. Each of their files is read once.

A folder of `rctaf sweep` is one study; a folder of `rctaf reproduce` has several:

    reproduction.json
    studies/<study>/    as `rctaf sweep` writes it
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from rctaf_jax.experiments.show.wording import count, network_label

from .outcomes import outcomes_of
from .rows import Results, load_results

REPRODUCTION, STUDIES = "reproduction.json", "studies"


@dataclass(frozen=True)
class Study:
    """What was read of a study, to be reported, drawn and judged."""

    folder: Path
    results: Results

    @property
    def title(self) -> str:
        """Method, network, data and length of training in words, and AutoAttack where it was."""
        config = self.results.config
        network = network_label(config.train.model, config.train.width)
        told = [config.train.method, network, self.results.data["name"]]
        if config.train.epochs is not None:
            told.append(count(config.train.epochs, "epoch"))
        told += ["AutoAttack"] if config.evaluation.attack == "autoattack" else []
        return ", ".join(told)

    @cached_property
    def outcomes(self) -> dict[str, dict[str, Bool[np.ndarray, " N"]]]:
        """What `outcomes_of` gives of each member that was measured, by its id.

        Raises:
          InputError: if a member's outcomes are not there or damaged.
        """
        done = [row for row in self.results.rows if row.is_done]
        return {row.id: outcomes_of(self.folder, row) for row in done}


def open_study(folder: str | os.PathLike[str]) -> Study:
    """Reads a results folder, finished or not.

    Raises:
      InputError: as `load_results` does.
    """
    return Study(Path(folder), load_results(folder))


def open_studies(folder: str | os.PathLike[str]) -> list[Study]:
    """Reads every study of a reproduction that has a network, or the one of a sweep.

    Raises:
      InputError: as `load_results` does.
    """
    folder = Path(folder)
    folders = study_folders(folder) if is_reproduction(folder) else [folder]
    return [open_study(path) for path in folders]


def is_reproduction(folder: Path) -> bool:
    """Whether `rctaf reproduce` made a folder."""
    return (folder / REPRODUCTION).is_file()


def study_folder(folder: Path, study: str) -> Path:
    """Where a reproduction has a study's networks."""
    return folder / STUDIES / study


def study_folders(folder: Path) -> list[Path]:
    """Every study of a reproduction that has a network."""
    return sorted({path.parents[2] for path in folder.glob(f"{STUDIES}/*/members/*/row.json")})
