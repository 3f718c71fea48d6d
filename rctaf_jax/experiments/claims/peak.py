r"""The peak of robust accuracy, and the valley of the Hessian norm, lie between 4 and 10.

The claim is about the curvatures that were tried. It is supported if one of them from 4 to 10 is
better, by a margin that matters, than every one tried outside, on both sides. It is not supported
if one outside is better by that margin than every one tried inside. Each comparison is a contrast
of two activations, seed by seed. Of several that must all hold, the least certain counts; that any
of k could be the one that holds them all costs a factor of k (Bonferroni).

The peak's place is the best curvature tried, and its 95% interval reaches from tried neighbour to
tried neighbour of all that may be the best: those that no other is better than at 5% / (n - 1).
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rctaf_jax.experiments.show.wording import CURVATURE, PAPER_RANGE, number

from .contrast import Estimate
from .evidence import Curve, Measured, less
from .verdict import Finding, decide

MARGIN_POINTS = 1.0
"""By how many points of accuracy a curvature must be better to be told from as good."""
MARGIN_PERCENT = 5.0
"""By how many per cent a Hessian norm must be lower."""
LEAST_POINTS = 2
UNRESOLVED = "some norms are lost in the noise of their probes, and those are the lowest: take more"
FEW_SEEDS = "fewer than two seeds of the same activations, so chance cannot be told: repeat seeds"
NOTHING_STANDS_OUT = "no curvature tried can be told from the best"
_LOCATION_LEVEL = 0.05
_LOW, _HIGH = PAPER_RANGE


class Contest(NamedTuple):
    """Every two points of a curve against each other, higher being better.

    Attributes:
      curvatures: of the points.
      has_values: whether each activation of a point has a network.
      is_lost: whether none of them has, since all networks diverged.
      pairs: for two places, the first less the second; None where too few seeds have both.
    """

    curvatures: Sequence[float]
    has_values: Sequence[bool]
    is_lost: Sequence[bool]
    pairs: dict[tuple[int, int], Estimate | None]

    def p_better(self, one: int, other: int, margin: float) -> float:
        """p value that one place is above another by a margin."""
        if self.is_lost[other]:
            return 0.0  # what no network survives is no better
        estimate = self.pairs.get((one, other))
        return 1.0 if estimate is None else estimate.p_above(margin)

    def places(self, *, is_inside: bool) -> list[int]:
        """Of the points from 4 to 10, or of the others."""
        return [i for i, c in enumerate(self.curvatures) if _inside(c) == is_inside]

    def possible(self) -> list[int]:
        """The points that may be the best."""
        known = [place for place, has in enumerate(self.has_values) if has]
        level = _LOCATION_LEVEL / max(len(known) - 1, 1)
        beaten = {
            one
            for (one, _), estimate in self.pairs.items()
            if estimate is not None and estimate.is_below(0.0, level)
        }
        return [place for place in known if place not in beaten]


def peak_in_range(claim: str, measured: Measured, sign: int, margin: float) -> list[Finding]:
    """Where a quantity is highest (sign +1) or lowest (-1): all betas together, then each.

    Args:
      claim: its name.
      measured: a quantity of a study.
      sign: of the better.
      margin: that matters, in the quantity's own unit.
    """
    return [find_peak(claim, measured, curve, sign, margin) for curve in measured.all_curves()]


def find_peak(claim: str, measured: Measured, curve: Curve, sign: int, margin: float) -> Finding:
    """One curve's peak and whether it lies in the range."""
    finding = Finding(claim, measured.study, curve.subject)
    if measured.unresolved & set(curve.families):
        return finding._replace(note=UNRESOLVED)
    if len(curve.points) < LEAST_POINTS:
        return finding._replace(note="only one curvature was tried")
    contest = hold_contest(measured, curve, sign)
    possible = contest.possible()
    if not possible:
        return finding._replace(note="every network diverged")
    means = {place: sign * measured.mean(curve.points[place]) for place in possible}
    best = max(means, key=lambda place: means[place])
    low = contest.curvatures[max(possible[0] - 1, 0)]
    high = contest.curvatures[min(possible[-1] + 1, len(curve.points) - 1)]
    p_for, p_against = p_values(contest, margin)
    return finding._replace(
        value=contest.curvatures[best],
        low=low,
        high=high,
        unit=CURVATURE,
        p_for=p_for,
        p_against=p_against,
        verdict=decide(p_for, p_against),
        note=_note(contest, best, possible),
    )


def hold_contest(measured: Measured, curve: Curve, sign: int) -> Contest:
    """Every two points of a curve against each other."""
    has_values = [measured.has_values(point) for point in curve.points]
    pairs: dict[tuple[int, int], Estimate | None] = {}
    for one, other in combinations(range(len(curve.points)), 2):
        if has_values[one] and has_values[other]:
            difference = less(curve.points[one], curve.points[other])
            found = measured.contrast(difference)
            first, second = (one, other) if sign > 0 else (other, one)
            pairs[first, second] = found
            pairs[second, first] = None if found is None else found._replace(value=-found.value)
    is_lost = [not any(measured.values[place] for place in point) for point in curve.points]
    return Contest(curve.curvatures.tolist(), has_values, is_lost, pairs)


def p_values(contest: Contest, margin: float) -> tuple[float | None, float | None]:
    """For and against the range; None where the curvatures tried cannot say."""
    inside, outside = contest.places(is_inside=True), contest.places(is_inside=False)
    if not inside or not outside:
        return None, None
    # Without a look at one side the peak may lie there; that it lies outside needs no such look.
    below = [place for place in outside if contest.curvatures[place] < _LOW]
    has_both_sides = 0 < len(below) < len(outside)
    p_for = _p_some_beats_all(contest, inside, outside, margin) if has_both_sides else None
    return p_for, _p_some_beats_all(contest, outside, inside, margin)


def _p_some_beats_all(
    contest: Contest, some: Sequence[int], others: Sequence[int], margin: float
) -> float:
    known = [place for place in some if contest.has_values[place]]
    ps = [max(contest.p_better(one, other, margin) for other in others) for one in known]
    return min(1.0, len(ps) * min(ps)) if ps else 1.0


def _inside(curvature: float) -> bool:
    return _LOW * (1 - 1e-6) <= curvature <= _HIGH * (1 + 1e-6)


def _note(contest: Contest, best: int, possible: Sequence[int]) -> str:
    """What the place and its interval alone would not tell."""
    curvatures = np.array(contest.curvatures)
    if not contest.places(is_inside=True):
        return f"no curvature from {number(_LOW)} to {number(_HIGH)} was tried"
    for side, is_tried, bound in (
        ("below", curvatures.min() < _LOW * (1 - 1e-6), _LOW),
        ("above", curvatures.max() > _HIGH * (1 + 1e-6), _HIGH),
    ):
        if not is_tried:
            return f"no curvature {side} {number(bound)} was tried: the peak may lie there"
    if not any(contest.pairs.values()):
        return FEW_SEEDS
    if len(possible) == sum(contest.has_values):
        return NOTHING_STANDS_OUT
    edges = {0: "smallest", len(curvatures) - 1: "largest"}
    return f"at the {edges[best]} curvature tried: it may lie beyond" if best in edges else ""


ROBUST_MARGIN = MARGIN_POINTS / 100
HESSIAN_MARGIN = math.log1p(MARGIN_PERCENT / 100)
