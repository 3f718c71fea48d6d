"""The measurements of one study as the claims need them: by activation, with draws."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from rctaf_jax.experiments.results.outcomes import outcomes_of
from rctaf_jax.experiments.results.row import Row
from rctaf_jax.experiments.results.rows import Results, load_results

from .sampling import Sample, Values, draw, find_noise, fit_effects, image_covariance

Quantity = Literal["robust", "clean", "hessian"]
ROBUST: Quantity = "robust"
CLEAN: Quantity = "clean"
HESSIAN: Quantity = "hessian"
_SEED = 0
_NO_NOISE = "too few repeated seeds and curvatures to tell what chance does: repeat seeds"


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
      unresolved: families of which some network's Hessian norm is lost in its own noise; it is
        among the lowest, so what is left says little of where the norm is lowest.
    """

    study: str
    groups: tuple[Group, ...]
    sample: Sample
    unresolved: frozenset[str] = frozenset()

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
    if not groups:
        return Lack(study.name, "no network was measured")
    outcomes = [{row.seed: _outcomes(study, row, name) for row in g.rows} for g in groups]
    values = [{seed: float(o.mean()) for seed, o in group.items()} for group in outcomes]
    return _measured(study, groups, values, image_covariance(outcomes))


def _hessians(study: Study, quantity: Quantity) -> Measured | Lack:
    """Log Hessian norms of the activations all of whose networks have one."""
    measured = group_rows(study.results.rows)
    groups = [group for group in measured if all(_norm(row) is not None for row in group.rows)]
    if not groups:
        return Lack(study.name, "no Hessian norm was measured")
    values = [{row.seed: math.log(_norm(row) or math.nan) for row in g.rows} for g in groups]
    unresolved = frozenset(
        group.family
        for group in measured
        if any(row.hessian is not None and row.hessian.rms is None for row in group.rows)
    )
    return _measured(study, groups, values, None, unresolved)


def _measured(
    study: Study,
    groups: Sequence[Group],
    values: Values,
    images: Float[np.ndarray, "G G"] | None,
    unresolved: frozenset[str] = frozenset(),
) -> Measured | Lack:
    effects = fit_effects(values)
    noise = find_noise(values, effects, _families(groups))
    if noise is None:
        return Lack(study.name, _NO_NOISE)
    sample = draw(np.random.default_rng(_SEED), values, effects, noise, images)
    return Measured(study.name, tuple(groups), sample, unresolved)


def _norm(row: Row) -> float | None:
    return row.hessian.rms if row.hessian is not None else None


def _outcomes(study: Study, row: Row, name: str) -> Bool[np.ndarray, " N"]:
    return outcomes_of(study.folder, row)[name]


def _families(groups: Sequence[Group]) -> list[tuple[list[int], list[float]]]:
    """For each family: its places among the groups, and curvatures, rising."""
    families: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        if group.beta is not None:
            families.setdefault(group.family, []).append(index)
    key: Callable[[int], float] = lambda place: groups[place].curvature  # noqa: E731
    ordered = [sorted(places, key=key) for places in families.values()]
    return [(places, [groups[place].curvature for place in places]) for places in ordered]
