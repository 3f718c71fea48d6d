"""The measurements of one study as the claims need them: by activation, with draws."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ..results import Results, Row, load_outcomes, load_results
from .sampling import Sample, draw_accuracies, draw_logarithms, find_noise
from .smooth import LEAST_POINTS

Quantity = Literal["robust", "clean", "hessian"]
ROBUST: Quantity = "robust"
CLEAN: Quantity = "clean"
HESSIAN: Quantity = "hessian"
_SEED = 0
_NO_NOISE = (
    "seeds were not repeated, and there are too few curvatures to tell chance from a curve: "
    "repeat seeds"
)


class Group(NamedTuple):
    """One activation and the networks that have it, one for each seed.

    Attributes:
      family, beta, alpha, curvature: as in `results.Row`; the curvature of a kink is infinite.
      rows: of the networks that were measured.
    """

    family: str
    beta: int | None
    alpha: float | None
    curvature: float
    rows: tuple[Row, ...]


class Study(NamedTuple):
    """Networks that differ in activation and seed only.

    Attributes:
      name: method, network and data in words.
      folder: where they are.
      results: what the folder holds.
    """

    name: str
    folder: Path
    results: Results


class Curve(NamedTuple):
    """One quantity of one family by rising curvature.

    Attributes:
      family, beta: of the family.
      curvatures, alphas: of its n activations.
      means, draws: of the quantity, draws in rows.
      counts: networks behind each mean.
    """

    family: str
    beta: int
    curvatures: Float[np.ndarray, " n"]
    alphas: Float[np.ndarray, " n"]
    means: Float[np.ndarray, " n"]
    draws: Float[np.ndarray, "B n"]
    counts: Float[np.ndarray, " n"]


class Measured(NamedTuple):
    """One quantity of a study's activations: accuracies as fractions, Hessian norms as logarithms.

    Attributes:
      study: name of the study.
      groups: the activations.
      sample: a column for each.
    """

    study: str
    groups: tuple[Group, ...]
    sample: Sample

    def curves(self) -> list[Curve]:
        """Each member of the family, by beta."""
        families: dict[str, list[int]] = {}
        for index, group in enumerate(self.groups):
            if group.beta is not None:
                families.setdefault(group.family, []).append(index)
        curves = [self._curve(family, places) for family, places in families.items()]
        return sorted(curves, key=lambda curve: curve.beta)

    def _curve(self, family: str, places: list[int]) -> Curve:
        rising = sorted(places, key=lambda place: self.groups[place].curvature)
        groups = [self.groups[place] for place in rising]
        return Curve(
            family,
            groups[0].beta or 0,
            np.array([group.curvature for group in groups]),
            np.array([group.alpha for group in groups], float),
            self.sample.means[rising],
            self.sample.draws[:, rising],
            self.sample.counts[rising],
        )


class Lack(NamedTuple):
    """Why a quantity cannot be judged."""

    study: str
    reason: str


def open_study(folder: Path) -> Study:
    """Reads a results folder.

    Raises:
      InputError: as `load_results` does.
    """
    results = load_results(folder)
    train = results.config["train"]
    width = "" if train["width"] == 1 else f" (width {train['width']:.3g})"
    return Study(
        f"{train['method']}, {train['model']}{width}, {results.data['name']}", folder, results
    )


def group_rows(rows: Sequence[Row]) -> list[Group]:
    """Measured networks by activation."""
    groups: dict[tuple[str, float | None], list[Row]] = {}
    for row in rows:
        if row.is_done:
            groups.setdefault((row.family, row.alpha), []).append(row)
    return [
        Group(family, rows[0].beta, alpha, rows[0].max_curvature, tuple(rows))
        for (family, alpha), rows in groups.items()
    ]


def measure(study: Study, quantity: Quantity) -> Measured | Lack:
    """A quantity of a study with draws; the same draws every time."""
    reader = _hessians if quantity == HESSIAN else _accuracies
    return reader(study, quantity)


def _accuracies(study: Study, quantity: Quantity) -> Measured | Lack:
    groups = group_rows(study.results.rows)
    name = {ROBUST: "robust", CLEAN: "clean_correct"}[quantity]
    outcomes = [np.stack([_outcomes(study, row, name) for row in g.rows]) for g in groups]
    if not groups:
        return Lack(study.name, "no network was measured")
    values = [_by_seed(g, list(o.mean(axis=1))) for g, o in zip(groups, outcomes, strict=True)]
    noise = find_noise(values, _families(groups))
    if noise is None:
        return Lack(study.name, _NO_NOISE)
    sample = draw_accuracies(np.random.default_rng(_SEED), outcomes, noise)
    return Measured(study.name, tuple(groups), sample)


def _hessians(study: Study, quantity: Quantity) -> Measured | Lack:
    """Log Hessian norms of the activations all of whose networks have one."""
    measured = group_rows(study.results.rows)
    groups = [group for group in measured if all(_norm(row) is not None for row in group.rows)]
    if not groups:
        return Lack(study.name, "no Hessian norm was measured")
    values = [[math.log(_norm(row) or math.nan) for row in group.rows] for group in groups]
    by_seed = [_by_seed(group, value) for group, value in zip(groups, values, strict=True)]
    noise = find_noise(by_seed, _families(groups))
    if noise is None:
        return Lack(study.name, _NO_NOISE)
    sample = draw_logarithms(np.random.default_rng(_SEED), values, noise)
    return Measured(study.name, tuple(groups), sample)


def _by_seed(group: Group, values: Sequence[float]) -> dict[int, float]:
    return {row.seed: value for row, value in zip(group.rows, values, strict=True)}


def _norm(row: Row) -> float | None:
    return row.hessian.rms if row.hessian is not None else None


def _outcomes(study: Study, row: Row, name: str) -> Bool[np.ndarray, " N"]:
    return load_outcomes(study.folder, row.id)[name]


def _families(groups: Sequence[Group]) -> list[tuple[list[int], list[float]]]:
    """For each family that has enough curvatures: its places among the groups, and curvatures."""
    families: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        if group.beta is not None:
            families.setdefault(group.family, []).append(index)
    key: Callable[[int], float] = lambda place: groups[place].curvature  # noqa: E731
    ordered = [sorted(places, key=key) for places in families.values()]
    return [
        (places, [groups[place].curvature for place in places])
        for places in ordered
        if len(places) >= LEAST_POINTS
    ]
