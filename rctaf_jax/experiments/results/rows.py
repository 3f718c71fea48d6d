"""A results folder as values: what a sweep was told, where it ran, and a row for each member.

    config.json, environment.json, data.json
    members/<id>/row.json           one for every member that finished or diverged

A folder whose sweep has not finished is as good as any other; `Results.missing` says what lacks.
"""

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.files import read_arrays, read_json, write_text_atomic

from .config_file import renewed

CONFIG, ENVIRONMENT, DATA, ROW = "config.json", "environment.json", "data.json", "row.json"

_KEYS = {
    CONFIG: ("data", "train", "evaluation", "hessian", "betas", "curvatures", "baselines", "seeds"),
    f"train in {CONFIG}": ("model", "width", "method", "norm", "epsilon", "epochs"),
    f"evaluation in {CONFIG}": ("pgd_steps", "pgd_restarts", "pgd_loss"),
    f"hessian in {CONFIG}": ("num_probes", "num_examples"),
    ENVIRONMENT: ("versions", "device", "platform", "commit", "command", "started"),
    DATA: ("name", "source", "num_train", "num_test", "content_hash", "index_order"),
}


class HessianNorm(NamedTuple):
    """Hutchinson's estimate of the Hessian's diagonal, reduced to its root mean square.

    Attributes:
      mean_square: (1/p) sum_k H_kk^2 without the bias that squaring noise adds; may be negative.
      mean_square_standard_error: of the above, over probes.
      rms: the paper's (8), the square root of the above, or None where that is negative.
      rms_standard_error: of the above.
      num_probes, num_examples, num_parameters: what the estimate is over.
    """

    mean_square: float
    mean_square_standard_error: float | None
    rms: float | None
    rms_standard_error: float | None
    num_probes: int
    num_examples: int
    num_parameters: int


class Row(NamedTuple):
    """One member of a sweep: one activation, one seed; the measurements are None if it diverged.

    Attributes:
      id: name of the member's folder.
      activation: canonical text, such as "rct-af:beta=1,alpha=14".
      family: the same without alpha.
      beta, alpha: None for the baselines.
      max_curvature: max |sigma''|, maybe infinite.
      seed: of the initialisation, the order of the batches and the attacks.
      status: "done" or "diverged".
      message: why it diverged.
      num_test, clean_correct, robust_correct: numbers of test images.
      nonfinite: test images whose logits were not finite.
      hessian: None if it was not measured.
      steps: of the training.
      seconds: by phase.
    """

    id: str
    activation: str
    family: str
    beta: int | None
    alpha: float | None
    max_curvature: float
    seed: int
    status: str
    message: str | None
    num_test: int | None
    clean_correct: int | None
    robust_correct: int | None
    nonfinite: int | None
    hessian: HessianNorm | None
    steps: int | None
    seconds: Mapping[str, float | None]

    @property
    def is_done(self) -> bool:
        """Whether the member was trained and measured."""
        return self.status == "done"


class Results(NamedTuple):
    """Everything a results folder holds, except the outcome of each test image.

    Attributes:
      config, environment, data: as in the JSON files.
      rows: baselines last; otherwise by beta, alpha and seed.
      num_expected: members that the configuration asks for.
      missing: those of them without a row, in words.
    """

    config: dict[str, Any]
    environment: dict[str, Any]
    data: dict[str, Any]
    rows: tuple[Row, ...]
    num_expected: int
    missing: tuple[str, ...]


def load_results(folder: str | os.PathLike[str]) -> Results:
    """Reads a results folder, finished or not.

    Raises:
      InputError: `folder` is not a results folder, one of its files is damaged or lacks something,
        or no member has a row yet.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder} is not a results folder: it has no {CONFIG}; give a folder that "
            "`rctaf sweep` wrote."
        )
    config, environment, data = (_checked(folder, name) for name in (CONFIG, ENVIRONMENT, DATA))
    config = renewed(config)
    for section in ("train", "evaluation", "hessian"):
        _require(folder / CONFIG, f"{section} in {CONFIG}", config[section])
    rows = tuple(read_row(path) for path in sorted(folder.glob(f"members/*/{ROW}")))
    expected = tuple(_expected(config))
    if not rows:
        raise InputError(
            f"{folder} holds no results yet: 0 of {len(expected)} members have a {ROW}; let the "
            "sweep finish at least one."
        )
    missing = tuple(e.label for e in expected if not any(e.describes(row) for row in rows))
    ordered = tuple(sorted(rows, key=_position))
    num_expected = len(expected) or len(rows)  # a study of `rctaf reproduce` states no grid
    return Results(config, environment, data, ordered, num_expected, missing)


def load_outcomes(folder: str | os.PathLike[str], member: str) -> dict[str, Bool[np.ndarray, " N"]]:
    """Image by image, what one network did with the test images.

    Args:
      folder: a results folder of `rctaf sweep`, or a study of `rctaf reproduce`.
      member: its `id`.

    Returns:
      `clean_correct`, `robust` and `nonfinite`, in the order of the test images.

    Raises:
      InputError: if they are not there or damaged.
    """
    path = Path(folder) / "members" / member / "outcomes.npz"
    return read_arrays(path, remedy="copy it from where the sweep ran")


def write_rows_csv(results: Results, path: str | os.PathLike[str]) -> Path:
    """Writes a line for every row, nested values as columns of their own, atomically."""
    return write_text_atomic(path, as_csv([flat_row(row) for row in results.rows]))


def as_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """A line for each record, a column for each key; None is an empty cell, infinity `inf`."""
    columns = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


class _Expected(NamedTuple):
    """A member that the configuration asks for."""

    label: str
    beta: int | None
    max_curvature: float
    activation: str | None
    seed: int

    def describes(self, row: Row) -> bool:
        if self.seed != row.seed:
            return False
        if self.activation is not None:
            return self.activation == row.activation
        same = math.isclose(self.max_curvature, row.max_curvature, rel_tol=1e-6)
        return self.beta == row.beta and same


def _expected(config: Mapping[str, Any]) -> Iterator[_Expected]:
    seeds = dict.fromkeys(config["seeds"])
    for beta in dict.fromkeys(config["betas"]):
        for curvature in dict.fromkeys(config["curvatures"]):
            for seed in seeds:
                label = f"β = {beta}, curvature {curvature:g}, seed {seed}"
                yield _Expected(label, beta, float(curvature), None, seed)
    for baseline in dict.fromkeys(config["baselines"]):
        activation = parse_activation(baseline)
        for seed in seeds:
            label = f"{activation.text}, seed {seed}"
            yield _Expected(label, None, activation.max_curvature, activation.text, seed)


def _checked(folder: Path, name: str) -> dict[str, Any]:
    value = read_json(folder / name)
    _require(folder / name, name, value)
    return value


def _require(path: Path, place: str, value: Any) -> None:
    lacking = [key for key in _KEYS[place] if not isinstance(value, dict) or key not in value]
    if lacking:
        raise InputError(f"{path} is incomplete: {place} must have {', '.join(lacking)}.")


def read_row(path: Path) -> Row:
    """One member's row.

    Raises:
      InputError: if it is not there, or no row.
    """
    value = read_json(path)
    try:
        fields = {name: value[name] for name in Row._fields}
        if fields["hessian"] is not None:
            norm = fields["hessian"]
            fields["hessian"] = HessianNorm(*(norm[name] for name in HessianNorm._fields))
        fields["max_curvature"] = float(fields["max_curvature"])  # "inf" is text in JSON
        row = Row(**fields)
    except KeyError as error:
        raise InputError(f"{path} is not a member's row: it lacks {error}.") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is not a member's row: {error}.") from None
    counts = (row.num_test, row.clean_correct, row.robust_correct)
    if row.status not in ("done", "diverged") or (row.is_done and None in counts):
        raise InputError(
            f"{path} has status {row.status!r} with the counts {counts}; it must be 'done' with "
            "all of num_test, clean_correct and robust_correct, or 'diverged'."
        )
    return row


def _position(row: Row) -> tuple[float, float, str, int]:
    beta = math.inf if row.beta is None else row.beta
    return (beta, row.alpha or 0.0, row.family, row.seed)


def flat_row(row: Row) -> dict[str, Any]:
    """A row without nested values: `hessian_rms`, `seconds_train` and so on."""
    values = row._asdict()
    hessian, seconds = values.pop("hessian"), values.pop("seconds")
    for field in HessianNorm._fields:
        values[f"hessian_{field}"] = getattr(hessian, field) if hessian else None
    values |= {f"seconds_{phase}": spent for phase, spent in (seconds or {}).items()}
    return values
