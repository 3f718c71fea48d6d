"""A member's outcomes.npz: image by image, what one network did with the test images."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from rctaf_jax.array_file import read_arrays
from rctaf_jax.errors import InputError

from .row import Row

FILE = "outcomes.npz"
COUNTS = {"clean_correct": "clean_correct", "robust": "robust_correct", "nonfinite": "nonfinite"}
"""The arrays of the file, and the row's counts of them."""

OutcomeArrays = dict[str, Bool[np.ndarray, " N"]]


def load_outcomes(folder: str | os.PathLike[str], member: str) -> OutcomeArrays:
    """Image by image, what one network did with the test images.

    Args:
      folder: a results folder of `rctaf sweep`, or a study of `rctaf reproduce`.
      member: its `id`.

    Returns:
      `clean_correct`, `robust` and `nonfinite`, in the order of the test images.

    Raises:
      InputError: if they are not there or damaged, or not three lists of truth values of one
        length.
    """
    path = _path(folder, member)
    remedy = "copy it from where the sweep ran"
    # Renamed it would look as if the member had not been measured.
    arrays = read_arrays(path, remedy=remedy, names=COUNTS, keeps_aside=False)
    outcomes = {name: arrays[name] for name in COUNTS}
    for name, array in outcomes.items():
        if array.dtype != bool or array.ndim != 1:
            raise InputError(
                f"{path} has {name} of type {array.dtype} and shape {array.shape}: it must be "
                "bool, of shape [N]."
            )
    if len(lengths := {len(array) for array in outcomes.values()}) > 1:
        raise InputError(
            f"{path} has arrays of the lengths {', '.join(map(str, sorted(lengths)))}: they must "
            "be of one length, the number of test images."
        )
    return outcomes


def outcomes_of(folder: Path, row: Row) -> OutcomeArrays:
    """The outcomes of a member that was measured, which add up to its row's counts.

    Raises:
      InputError: as `load_outcomes` does, and if they are of another number of images or have
        other sums than the row says.
    """
    outcomes = load_outcomes(folder, row.id)
    here = {"num_test": len(outcomes["robust"])}
    here |= {count: int(outcomes[name].sum()) for name, count in COUNTS.items()}
    for count, found in here.items():
        stated = getattr(row, count)
        if stated is not None and stated != found:
            raise InputError(
                f"{_path(folder, row.id)} has {count} = {found}: it must be {stated}, as in the "
                "row.json beside it."
            )
    return outcomes


def _path(folder: str | os.PathLike[str], member: str) -> Path:
    return Path(folder) / "members" / member / FILE
