"""Outcomes are three lists of truth values that add up to their row's counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.outcomes import load_outcomes, outcomes_of
from rctaf_jax.experiments.results.row import Row, read_row

NAME = "rct-af-beta1-curvature7-seed0"


@pytest.fixture
def folder(make_folder: Callable[..., Path], make_member: Callable[..., Any]) -> Path:
    return make_folder([make_member(1, 7, 0)])


@pytest.fixture
def row(folder: Path) -> Row:
    return read_row(folder / "members" / NAME / "row.json")


def change(folder: Path, **arrays: np.ndarray | None) -> None:
    path = folder / "members" / NAME / "outcomes.npz"
    with np.load(path) as stored:
        changed = dict(stored) | arrays
    np.savez(path, **{name: array for name, array in changed.items() if array is not None})


def test_outcomes_add_up_to_their_row(folder, row):
    outcomes = outcomes_of(folder, row)
    assert list(outcomes) == ["clean_correct", "robust", "nonfinite"]
    assert [int(array.sum()) for array in outcomes.values()] == [340, 200, 0]


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros(360, np.int64), r"robust of type int64 and shape \(360,\): it must be bool"),
        (np.zeros((360, 1), bool), r"robust of type bool and shape \(360, 1\): it must be bool"),
        (np.zeros((), bool), r"robust of type bool and shape \(\): it must be bool"),
        (np.zeros(359, bool), "arrays of the lengths 359, 360: they must be of one length"),
        (np.full(360, np.nan), "robust of type float64"),
        (np.zeros(360, "U1"), "robust of type <U1"),
    ],
)
def test_other_arrays_are_refused(folder, array: np.ndarray, sentence: str):
    change(folder, robust=array)
    with pytest.raises(InputError, match=f"{NAME}/outcomes.npz has {sentence}"):
        load_outcomes(folder, NAME)


def test_an_array_that_is_not_there(folder):
    change(folder, nonfinite=None)
    with pytest.raises(InputError, match=r"outcomes.npz is damaged \(it holds no array nonfinite"):
        load_outcomes(folder, NAME)


@pytest.mark.parametrize("name", ["clean_correct", "robust", "nonfinite"])
def test_other_sums_are_refused(folder, row, name: str):
    change(folder, **{name: np.arange(360) < 17})
    count = {"robust": "robust_correct"}.get(name, name)
    stated = {"clean_correct": 340, "robust": 200, "nonfinite": 0}[name]
    with pytest.raises(InputError, match=f"npz has {count} = 17: it must be {stated}, as in the"):
        outcomes_of(folder, row)


def test_another_number_of_images_is_refused(folder, row):
    longer = {
        name: np.arange(400) < count
        for name, count in {"clean_correct": 340, "robust": 200, "nonfinite": 0}.items()
    }
    change(folder, **longer)
    with pytest.raises(InputError, match=r"npz has num_test = 400: it must be 360, as in the row"):
        outcomes_of(folder, row)
