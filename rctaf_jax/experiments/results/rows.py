"""A results folder as values: what a sweep was told, where it ran, and a row for each member.

    config.json, environment.json, data.json
    members/<id>/row.json           one for every member that finished or diverged

A folder whose sweep has not finished is as good as any other; `Results.missing` says what lacks.
"""

import csv
import dataclasses
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from rctaf_jax.activations import parse_activation
from rctaf_jax.config import SweepConfig
from rctaf_jax.errors import InputError, MissingPartError
from rctaf_jax.files import write_text_atomic
from rctaf_jax.typed_json import AtLeast1, read_typed

from .config_file import read_config
from .row import Row, flat_row, read_row

ENVIRONMENT, DATA, ROW = "environment.json", "data.json", "row.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Environment:
    """environment.json; what has a default may be absent."""

    versions: dict[str, str]
    device: str
    command: str
    started: str
    commit: str | None = None
    platform: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Data:
    """data.json; what has a default may be absent."""

    name: str
    source: str
    num_train: AtLeast1
    num_test: AtLeast1
    content_hash: str
    index_order: str
    image_shape: Annotated[list[AtLeast1], Meta(min_length=3, max_length=3)] | None = None
    class_names: Annotated[list[str], Meta(min_length=1)] | None = None


class Results(NamedTuple):
    """Everything a results folder holds, except the outcome of each test image.

    Attributes:
      config: what it was told.
      environment, data: as in the JSON files.
      rows: baselines last; otherwise by beta, alpha and seed.
      num_expected: members that the configuration asks for.
      missing: those of them without a row, in words.
    """

    config: SweepConfig
    environment: dict[str, Any]
    data: dict[str, Any]
    rows: tuple[Row, ...]
    num_expected: int
    missing: tuple[str, ...]


def load_results(folder: str | os.PathLike[str]) -> Results:
    """Reads a results folder, finished or not.

    Raises:
      InputError: `folder` is not a results folder, one of its files is damaged, lacks something or
        contradicts another, or no member has a row yet.
    """
    folder = Path(folder)
    config = read_config(folder, SweepConfig)
    environment = read_environment(folder / ENVIRONMENT)
    data = dataclasses.asdict(read_typed(folder / DATA, _Data))
    rows = tuple(read_row(path) for path in sorted(folder.glob(f"members/*/{ROW}")))
    _check_images(folder, rows, data["num_test"])
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


def read_environment(path: Path) -> dict[str, Any]:
    """Where a sweep or one of its members ran.

    Raises:
      InputError: if it is not there, damaged, or lacks something.
    """
    return dataclasses.asdict(read_typed(path, _Environment))


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


def _expected(config: SweepConfig) -> Iterator[_Expected]:
    seeds = dict.fromkeys(config.seeds)
    for beta in dict.fromkeys(config.betas):
        for curvature in dict.fromkeys(config.curvatures):
            for seed in seeds:
                label = f"β = {beta}, curvature {curvature:g}, seed {seed}"
                yield _Expected(label, beta, float(curvature), None, seed)
    for baseline in dict.fromkeys(config.baselines):
        try:
            activation = parse_activation(baseline)
            text, curvature = activation.text, activation.max_curvature
        except MissingPartError:  # of a package that is not here
            text, curvature = baseline, math.nan
        for seed in seeds:
            yield _Expected(f"{text}, seed {seed}", None, curvature, text, seed)


def _check_images(folder: Path, rows: Sequence[Row], num_test: int) -> None:
    """Refuse a member that was measured on other images than the folder's."""
    for row in rows:
        if row.num_test not in (None, num_test):
            raise InputError(
                f"{folder / 'members' / row.id / ROW} has num_test = {row.num_test}: it must be "
                f"{num_test}, as in {DATA}."
            )


def _position(row: Row) -> tuple[float, float, str, int]:
    beta = math.inf if row.beta is None else row.beta
    return (beta, row.alpha or 0.0, row.family, row.seed)
