"""The measurements of one study as the claims need them: by activation and seed."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from rctaf_jax.experiments.results.grouping import by_activation, grouped
from rctaf_jax.experiments.results.row import Row
from rctaf_jax.experiments.results.studies import Study
from rctaf_jax.experiments.show.wording import family_label

from .contrast import Estimate, ImageNoise, Values, estimate_contrast, image_noise
from .verdict import TOGETHER

QuantityName = Literal["robust", "clean", "hessian"]
ROBUST: QuantityName = "robust"
CLEAN: QuantityName = "clean"
HESSIAN: QuantityName = "hessian"
_ARRAYS = {ROBUST: "robust", CLEAN: "clean_correct"}

Weights = Mapping[int, float]
"""Of activations, by their places among the groups."""


class ActivationGroup(NamedTuple):
    """One activation.

    Attributes:
      family, beta, alpha, curvature: as in `results.Row`; the curvature of a kink is infinite.
    """

    family: str
    beta: int | None
    alpha: float | None
    curvature: float


class Curve(NamedTuple):
    """What was tried of one family, or of all betas together, by rising curvature.

    Attributes:
      subject: of the findings about it.
      families: one, or all.
      curvatures: that were tried.
      points: for each, the activations whose mean it is.
    """

    subject: str
    families: tuple[str, ...]
    curvatures: Float[np.ndarray, " n"]
    points: tuple[Weights, ...]


class Measured(NamedTuple):
    """One quantity of a study's activations: accuracies as fractions, Hessian norms as logarithms.

    Attributes:
      study: name of the study.
      groups: the activations that were tried.
      values: of each, by seed; none if all its networks diverged.
      images: what test images do; None for Hessian norms.
      unresolved: families of which some network's Hessian norm is lost in its own noise; it is
        among the lowest, so what is left says little of where the norm is lowest.
    """

    study: str
    groups: tuple[ActivationGroup, ...]
    values: Values
    images: ImageNoise | None = None
    unresolved: frozenset[str] = frozenset()

    def contrast(self, weights: Weights) -> Estimate | None:
        """A weighted sum of activations, None if too few seeds have all of them."""
        return estimate_contrast(self.values, weights, self.images)

    def mean(self, weights: Weights) -> float:
        """A weighted sum of the activations' means."""
        return sum(
            weight * float(np.mean(list(self.values[place].values())))
            for place, weight in weights.items()
        )

    def has_values(self, weights: Weights) -> bool:
        """Whether each of the activations has a network that was measured."""
        return all(self.values[place] for place in weights)

    def curves(self) -> list[Curve]:
        """A curve for each beta."""
        return [self._curve(*found) for found in sorted(rising_places(self.groups).items())]

    def all_curves(self) -> list[Curve]:
        """All betas together over the curvatures that all have, if there are several; then each."""
        own = self.curves()
        shared = (
            [place for place in own[0].curvatures if all(_has(c, place) for c in own)]
            if own
            else []
        )
        if len(own) < 2 or not shared:
            return own
        points = tuple(
            {place: 1 / len(own) for curve in own for place in curve.points[_index(curve, at)]}
            for at in shared
        )
        families = tuple(family for curve in own for family in curve.families)
        return [Curve(TOGETHER, families, np.array(shared), points), *own]

    def _curve(self, family: str, rising: list[int]) -> Curve:
        curvatures = np.array([self.groups[place].curvature for place in rising])
        points = tuple({place: 1.0} for place in rising)
        return Curve(family_label(family), (family,), curvatures, points)


class Evidence(NamedTuple):
    """One quantity of a study, diverged networks left out, and counted as chance.

    Attributes:
      surviving: without them.
      counting: with the accuracy of guessing for each of them; None if none diverged, and for
        Hessian norms, which they have none of.
    """

    surviving: Measured
    counting: Measured | None = None


class Lack(NamedTuple):
    """Why a quantity cannot be judged."""

    study: str
    reason: str


def less(one: Weights, other: Weights) -> Weights:
    """The contrast of two weighted means."""
    places = {*one, *other}
    return {place: one.get(place, 0.0) - other.get(place, 0.0) for place in places}


def measure_quantity(study: Study, quantity: QuantityName) -> Evidence | Lack:
    """A quantity of a study."""
    return _hessians(study) if quantity == HESSIAN else _accuracies(study, _ARRAYS[quantity])


def _accuracies(study: Study, name: str) -> Evidence | Lack:
    rows = by_activation(study.results.rows)
    if not any(row.is_done for group in rows for row in group):
        return Lack(study.title, "no network was measured")
    outcomes = [
        {row.seed: study.outcomes[row.id][name].astype(np.float32) for row in group if row.is_done}
        for group in rows
    ]
    surviving = _of_outcomes(study, rows, outcomes)
    if all(row.is_done for group in rows for row in group):
        return Evidence(surviving)
    guess = np.full(study.results.data["num_test"], _chance(study), np.float32)
    counted = [
        own | {row.seed: guess for row in group if not row.is_done}
        for group, own in zip(rows, outcomes, strict=True)
    ]
    return Evidence(surviving, _of_outcomes(study, rows, counted))


def _chance(study: Study) -> float:
    """The accuracy of guessing; 0 where an older folder does not name the classes."""
    names = study.results.data.get("class_names")
    return 1 / len(names) if names else 0.0


def _of_outcomes(
    study: Study,
    rows: Sequence[Sequence[Row]],
    outcomes: Sequence[Mapping[int, Float[np.ndarray, " N"]]],
) -> Measured:
    values = [{seed: float(o.mean(dtype=float)) for seed, o in group.items()} for group in outcomes]
    groups = tuple(_group(group[0]) for group in rows)
    return Measured(study.title, groups, values, image_noise(outcomes))


def _hessians(study: Study) -> Evidence | Lack:
    """Log Hessian norms of the activations all of whose measured networks have one."""
    rows = by_activation(study.results.rows)
    known = [g for g in rows if all(_norm(row) is not None for row in g if row.is_done)]
    values = [
        {row.seed: math.log(_norm(row) or math.nan) for row in group if row.is_done}
        for group in known
    ]
    if not any(values):
        return Lack(study.title, "no Hessian norm was measured")
    unresolved = frozenset(
        row.family
        for row in study.results.rows
        if row.hessian is not None and row.hessian.rms is None
    )
    groups = tuple(_group(group[0]) for group in known)
    return Evidence(Measured(study.title, groups, values, None, unresolved))


def _group(row: Row) -> ActivationGroup:
    return ActivationGroup(row.family, row.beta, row.alpha, row.max_curvature)


def _norm(row: Row) -> float | None:
    return row.hessian.rms if row.hessian is not None else None


def _has(curve: Curve, curvature: float) -> bool:
    return bool(np.isclose(curve.curvatures, curvature, rtol=1e-6).any())


def _index(curve: Curve, curvature: float) -> int:
    return int(np.argmin(abs(np.log(curve.curvatures / curvature))))


def rising_places(groups: Sequence[ActivationGroup]) -> dict[str, list[int]]:
    """For each beta's family, its places among the groups by rising curvature."""
    places = [place for place, group in enumerate(groups) if group.beta is not None]
    families = grouped(places, lambda place: groups[place].family)
    return {
        family: sorted(own, key=lambda place: groups[place].curvature)
        for family, own in families.items()
    }
