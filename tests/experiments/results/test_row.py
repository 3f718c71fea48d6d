"""A row.json is read as a `Row`, or refused by its key."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.row import Row, flat_row, read_row

ID = "rct-af-beta1-curvature7-seed0"
NORM = {
    "mean_square": 1e-4,
    "rms": 0.01,
    "num_probes": 16,
    "num_examples": 1437,
    "num_parameters": 12345,
}
ROOT = r"hessian.rms = \S+: it must be \S+, as its mean_square has it"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "text for alpha": ({"alpha": "x"}, 'alpha = "x": it must be a number > 0 or null'),
    "negative alpha": ({"alpha": -14}, "alpha = -14: it must be a number > 0"),
    "no alpha": ({"alpha": None}, "alpha = None: it must be 14.0, that of the row's activation"),
    "another alpha": ({"alpha": 15}, "alpha = 15.0: it must be 14.0, that of the row's activation"),
    "no seed": ({"seed": None}, "seed = null: it must be an integer"),
    "text for a seed": ({"seed": "0"}, 'seed = "0": it must be an integer'),
    "a seed too large": ({"seed": 2**70}, "it must be an integer of at most 64 bits"),
    "a fraction for beta": ({"beta": 1.5}, "beta = 1.5: it must be an integer >= 0 or null"),
    "another beta": ({"beta": 2}, "beta = 2: it must be 1, that of the row's activation"),
    "no curvature": ({"max_curvature": 0}, "max_curvature = 0.0: it must be 7, that of the row's"),
    "negative curvature": ({"max_curvature": -3}, "max_curvature = -3: it must be a number >= 0"),
    "curvature that is no number": ({"max_curvature": math.nan}, "it must be a finite number"),
    "text for curvature": ({"max_curvature": "sharp"}, 'max_curvature = "sharp": it must be a num'),
    "infinite curvature": ({"max_curvature": "inf"}, "max_curvature = inf: it must be 7"),
    "another family": ({"family": "relu"}, "family = 'relu': it must be 'rct-af:beta=1'"),
    "no activation": ({"activation": "sine"}, "activation = 'sine': it must be 'rct-af:beta=1'"),
    "an activation of too many digits": (
        {"activation": f"rct-af:beta={'9' * 5000},alpha=1"},
        r"activation = .*\.\.\.: it must be text of length <= 200",
    ),
    "a beta too large": (
        {"activation": "rct-af:beta=1000000,alpha=14", "beta": 10**6},
        "an activation that cannot be: beta is 1000000",
    ),
    "another activation": ({"activation": "gelu"}, "family = 'rct-af:beta=1': it must be 'gelu'"),
    "another id": ({"id": "../../x"}, f"id = '../../x': it must be '{ID}', the name of its folder"),
    "unknown status": ({"status": "lost"}, 'status = "lost": it must be "diverged" or "done"'),
    "text for a count": ({"num_test": "20"}, 'num_test = "20": it must be an integer >= 1 or null'),
    "no images": ({"num_test": 0}, "num_test = 0: it must be an integer >= 1"),
    "too many right": ({"clean_correct": 361}, "clean_correct = 361: it must be at most num_test"),
    "more robust than right": (
        {"robust_correct": 341},
        "robust_correct = 341: it must be at most clean_correct, 340",
    ),
    "negative count": ({"robust_correct": -1}, "robust_correct = -1: it must be an integer >= 0"),
    "no count": ({"robust_correct": None}, "robust_correct = None: it must be a number of images"),
    "too many not finite": ({"nonfinite": 400}, "nonfinite = 400: it must be at most num_test"),
    "negative seconds": (
        {"seconds": {"train": -1}},
        "seconds.train = -1: it must be a number >= 0",
    ),
    "a list of seconds": ({"seconds": [1]}, r"seconds = \[1\]: it must be an object"),
    "a number for a message": ({"message": 3}, "message = 3: it must be text or null"),
    "negative steps": ({"steps": -1}, "steps = -1: it must be an integer >= 0"),
    "a number for a norm": ({"hessian": 3}, "hessian = 3: it must be an object"),
    "half a norm": ({"hessian": {"rms": 1.0}}, "lacks hessian.mean_square: it must be a number"),
    "negative rms": ({"hessian": NORM | {"rms": -1}}, "hessian.rms = -1: it must be a number >= 0"),
    "another rms": ({"hessian": NORM | {"rms": 1}}, ROOT),
    "rms of a negative square": ({"hessian": NORM | {"mean_square": -1e-4}}, ROOT),
    "no rms": ({"hessian": NORM | {"rms": None}}, ROOT),
    "no probes": (
        {"hessian": NORM | {"num_probes": 0}},
        "hessian.num_probes = 0: it must be an in",
    ),
}


@pytest.fixture
def write(tmp_path: Path, make_member: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """Writes the row of a finished member, some of its columns changed."""

    def write_row(lacks: str = "", **changes: Any) -> Path:
        row = make_member(1, 7, 0) | changes
        row.pop(lacks, None)
        path = tmp_path / ID / "row.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(row))
        return path

    return write_row


def test_a_row_of_an_activation_that_is_not_here(write):
    """Of a package that was there when it was trained: the row itself knows the curvature."""
    own = {"activation": "their:wave", "family": "their:wave", "beta": None, "alpha": None}
    assert read_row(write(**own)).max_curvature == 7
    with pytest.raises(InputError, match="activation = 'their:wave': it must be 'their:wave', the"):
        read_row(write(**(own | {"beta": 1})))


@pytest.mark.parametrize(("changes", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_row_that_cannot_be_is_refused_by_its_key(write, changes, sentence):
    path = write(**changes)
    with pytest.raises(InputError, match=sentence) as caught:
        read_row(path)
    assert str(caught.value).startswith(f"{path} ")
    assert "\n" not in str(caught.value)


NEEDED = ["id", "activation", "family", "beta", "alpha", "max_curvature", "seed", "status"]


@pytest.mark.parametrize("column", NEEDED)
def test_a_column_that_judging_needs_must_be_there(write, column: str):
    with pytest.raises(InputError, match=f"row.json lacks {column}: it must be "):
        read_row(write(lacks=column))


@pytest.mark.parametrize("column", ["message", "nonfinite", "hessian", "steps", "seconds"])
def test_a_column_that_an_older_row_lacks_is_empty(write, column: str):
    assert not getattr(read_row(write(lacks=column)), column)


def test_a_column_of_a_newer_row_is_ignored(write):
    assert read_row(write(newer={"a": [1]})) == read_row(write())


def test_a_row_and_its_flat_form(write):
    row = read_row(write())
    assert (row.id, row.beta, row.alpha, row.max_curvature, row.is_done) == (ID, 1, 14.0, 7.0, True)
    flat = flat_row(row)
    assert list(flat)[:4] == ["id", "activation", "family", "beta"]
    assert flat["hessian_rms"] == 0.01
    assert flat["seconds_evaluate"] == 5.0
    assert "hessian" not in flat
    assert isinstance(row, Row)
