"""The measurements of one study as the claims need them: by activation, with draws."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from rctaf_jax.experiments.results.grouping import by_activation, grouped
from rctaf_jax.experiments.results.row import Row
from rctaf_jax.experiments.results.studies import Study

from .sampling import (
    SampledMeans,
    Values,
    draw_means,
    find_noise,
    fit_effects,
    image_covariance,
)

QuantityName = Literal["robust", "clean", "hessian"]
ROBUST: QuantityName = "robust"
CLEAN: QuantityName = "clean"
HESSIAN: QuantityName = "hessian"
_SEED = 0
_NO_NOISE = "too few repeated seeds and curvatures to tell what chance does: repeat seeds"


class ActivationGroup(NamedTuple):
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


class FamilyCurve(NamedTuple):
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
    groups: tuple[ActivationGroup, ...]
    sample: SampledMeans
    unresolved: frozenset[str] = frozenset()

    def curves(self) -> list[FamilyCurve]:
        """The curves of the family, by beta."""
        curves = [self._curve(*found) for found in rising_places(self.groups).items()]
        return sorted(curves, key=lambda curve: curve.beta)

    def _curve(self, family: str, rising: list[int]) -> FamilyCurve:
        groups = [self.groups[place] for place in rising]
        return FamilyCurve(
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


def group_measured(rows: Sequence[Row]) -> list[ActivationGroup]:
    """Measured networks by activation."""
    return [
        ActivationGroup(
            group[0].family, group[0].beta, group[0].alpha, group[0].max_curvature, tuple(group)
        )
        for group in by_activation(row for row in rows if row.is_done)
    ]


def measure_quantity(study: Study, quantity: QuantityName) -> Measured | Lack:
    """A quantity of a study with draws; the same draws every time."""
    reader = _hessians if quantity == HESSIAN else _accuracies
    return reader(study, quantity)


def _accuracies(study: Study, quantity: QuantityName) -> Measured | Lack:
    groups = group_measured(study.results.rows)
    name = {ROBUST: "robust", CLEAN: "clean_correct"}[quantity]
    if not groups:
        return Lack(study.title, "no network was measured")
    outcomes = [{row.seed: study.outcomes[row.id][name] for row in g.rows} for g in groups]
    values = [{seed: float(o.mean()) for seed, o in group.items()} for group in outcomes]
    return _measured(study, groups, values, image_covariance(outcomes))


def _hessians(study: Study, quantity: QuantityName) -> Measured | Lack:
    """Log Hessian norms of the activations all of whose networks have one."""
    measured = group_measured(study.results.rows)
    groups = [group for group in measured if all(_norm(row) is not None for row in group.rows)]
    if not groups:
        return Lack(study.title, "no Hessian norm was measured")
    values = [{row.seed: math.log(_norm(row) or math.nan) for row in g.rows} for g in groups]
    unresolved = frozenset(
        group.family
        for group in measured
        if any(row.hessian is not None and row.hessian.rms is None for row in group.rows)
    )
    return _measured(study, groups, values, None, unresolved)


def _measured(
    study: Study,
    groups: Sequence[ActivationGroup],
    values: Values,
    images: Float[np.ndarray, "G G"] | None,
    unresolved: frozenset[str] = frozenset(),
) -> Measured | Lack:
    effects = fit_effects(values)
    families = rising_places(groups).values()
    curves = [(places, [groups[place].curvature for place in places]) for places in families]
    noise = find_noise(values, effects, curves)
    if noise is None:
        return Lack(study.title, _NO_NOISE)
    sample = draw_means(np.random.default_rng(_SEED), values, effects, noise, images)
    return Measured(study.title, tuple(groups), sample, unresolved)


def _norm(row: Row) -> float | None:
    return row.hessian.rms if row.hessian is not None else None


def rising_places(groups: Sequence[ActivationGroup]) -> dict[str, list[int]]:
    """For each beta's family, its places among the groups by rising curvature."""
    places = [place for place, group in enumerate(groups) if group.beta is not None]
    families = grouped(places, lambda place: groups[place].family)
    return {
        family: sorted(own, key=lambda place: groups[place].curvature)
        for family, own in families.items()
    }
