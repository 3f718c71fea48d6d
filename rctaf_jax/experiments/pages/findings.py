"""What a sweep found, in sentences that claim no more than its intervals allow.

The best of several means is likelier to be too high than too low, and its curvature may be chance.
So a best curvature is always told with its interval, with how many others it cannot be told from,
and with a warning where it lies at the end of the range that was tried.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rctaf_jax.experiments.results.grouping import grouped
from rctaf_jax.experiments.results.phrasing import norm
from rctaf_jax.experiments.results.rows import Results
from rctaf_jax.experiments.results.summary import IntervalEstimate, Summary
from rctaf_jax.experiments.show.wording import (
    CURVATURE,
    PAPER_RANGE,
    count,
    family_label,
    listing,
    number,
    percent,
)

_PAPER_MODELS = ("resnet18", "wrn-28-10")
_PAPER_METHODS = ("trades", "dajat", "dkl")
_PAPER_DATA = ("cifar10", "cifar100")
_PAPER_NUM_TRAIN = 50_000


class Best(NamedTuple):
    """Where one family is best.

    Attributes:
      family: such as "rct-af:beta=1".
      curvature: max |sigma''| of the best mean (the first, if several are equal).
      estimate: that mean and its interval.
      num_others: other curvatures measured.
      num_overlapping: those of them whose interval has a point in common with the best one's.
      edge: "smallest" or "largest" if the best is at that end of the curvatures tried, else None.
    """

    family: str
    curvature: float
    estimate: IntervalEstimate
    num_others: int
    num_overlapping: int
    edge: str | None


def most_robust(summaries: Sequence[Summary]) -> list[Best]:
    """For each beta, the curvature with the highest mean robust accuracy."""
    return _best(summaries, lambda summary: summary.robust, sign=-1)


def flattest(summaries: Sequence[Summary]) -> list[Best]:
    """For each beta, the curvature with the lowest mean Hessian norm."""
    return _best(summaries, lambda summary: summary.hessian, sign=1)


def robustness_sentences(summaries: Sequence[Summary]) -> list[str]:
    """One finding for each beta, then one for each baseline."""
    found = most_robust(summaries)
    sentences = [
        f"{family_label(best.family)}: the highest mean robust accuracy, "
        f"{_accuracy(best.estimate)}, is at {CURVATURE} = {number(best.curvature)}. "
        + _certainty(best)
        for best in found
    ]
    baselines = [summary for summary in summaries if summary.beta is None]
    return sentences + [_baseline(summary, found) for summary in baselines if summary.robust]


def hessian_sentences(summaries: Sequence[Summary]) -> list[str]:
    """One finding for each beta."""
    return [
        f"{family_label(best.family)}: the lowest mean Hessian norm, {norm(best.estimate)}, is at "
        f"{CURVATURE} = {number(best.curvature)}. " + _certainty(best)
        for best in flattest(summaries)
    ]


def paper_sentences(results: Results, summaries: Sequence[Summary]) -> list[str]:
    """How the peaks lie to the paper's range, and why that settles nothing."""
    low, high = PAPER_RANGE
    claim = (
        f"The paper reports the best robust accuracy for {CURVATURE} from {number(low)} to "
        f"{number(high)}."
    )
    found = most_robust(summaries)
    if not found:
        return [claim, "This sweep measured no RCT-AF member, so it has nothing to set beside it."]
    inside = sum(low <= best.curvature <= high for best in found)
    places = listing([number(best.curvature) for best in found])
    here = (
        f"Here the highest mean{'s are' if len(found) > 1 else ' is'} at {places}: {inside} of "
        f"{len(found)} inside that range."
    )
    different = differences(results)
    if not different:
        return [claim, here]
    caution = (
        f"This sweep differs from the paper's experiments in {listing(different)}, so "
        "it neither confirms nor refutes the paper."
    )
    return [claim, here, caution]


def differences(results: Results) -> list[str]:
    """What sets this sweep apart from the paper's experiments."""
    train, data = results.config.train, results.data
    base_name = str(data["name"]).partition("[")[0]
    found = []
    if base_name not in _PAPER_DATA:
        found.append(f"the data ({data['name']})")
    elif data["num_train"] < _PAPER_NUM_TRAIN:
        found.append(f"the amount of data ({count(data['num_train'], 'training image')})")
    if train.model not in _PAPER_MODELS or train.width != 1:
        found.append(f"the network ({train.model}, width {number(train.width)})")
    if train.method not in _PAPER_METHODS:
        found.append(f"the training method ({train.method})")
    if train.norm != "Linf" or not math.isclose(train.epsilon, 8 / 255, rel_tol=1e-3):
        found.append(f"the perturbations ({train.norm}, ε = {number(train.epsilon)})")
    if not uses_autoattack(results):
        found.append("the attack (PGD instead of AutoAttack)")
    return found


def uses_autoattack(results: Results) -> bool:
    """Whether robust accuracy was measured by AutoAttack."""
    return results.config.evaluation.attack == "autoattack"


def _best(
    summaries: Sequence[Summary],
    quantity: Callable[[Summary], IntervalEstimate | None],
    *,
    sign: int,
) -> list[Best]:
    known = [
        (summary.family, summary.max_curvature, estimate)
        for summary in summaries
        if summary.beta is not None and (estimate := quantity(summary)) is not None
    ]
    families = grouped(known, lambda point: point[0])
    return [
        _best_of(family, sorted(point[1:] for point in points), sign)
        for family, points in families.items()
    ]


def _best_of(family: str, points: list[tuple[float, IntervalEstimate]], sign: int) -> Best:
    curvature, estimate = min(points, key=lambda point: sign * point[1].mean)
    others = [other for place, other in points if place != curvature]
    edge = None
    if others and curvature in (points[0][0], points[-1][0]):
        edge = "smallest" if curvature == points[0][0] else "largest"
    overlapping = sum(other.overlaps(estimate) for other in others)
    return Best(family, curvature, estimate, len(others), overlapping, edge)


def _certainty(best: Best) -> str:
    """How far the best can be told from the others."""
    if best.num_others == 0:
        return "It is the only curvature measured."
    if math.isnan(best.estimate.low):
        text = "It has no interval, so it cannot be compared."
    elif best.num_overlapping == 0:
        text = f"No other interval overlaps with its own ({count(best.num_others, 'other')})."
    else:
        is_all = best.num_overlapping == best.num_others
        which = "all" if is_all else f"{best.num_overlapping} of the"
        whose = f"intervals of {which} {best.num_others:,} other curvatures overlap"
        if best.num_others == 1:
            whose = "interval of the other curvature overlaps"
        text = f"The {whose} with its own, so they may do as well."
    if best.edge:
        text += f" It is the {best.edge} curvature tried: the best may lie beyond."
    return text


def _baseline(summary: Summary, found: Sequence[Best]) -> str:
    assert summary.robust is not None
    robust = summary.robust
    text = f"{family_label(summary.family)}: {_accuracy(robust)}."
    parts = [
        f"{relation} the best of {listing([family_label(best.family) for best in own])}"
        for relation, own in grouped(found, lambda best: _relation(robust, best.estimate)).items()
    ]
    return f"{text} Its interval {' and '.join(parts)}." if parts else text


def _relation(one: IntervalEstimate, other: IntervalEstimate) -> str:
    if one.overlaps(other):
        return "overlaps with"
    return "lies below" if one.mean < other.mean else "lies above"


def _accuracy(estimate: IntervalEstimate) -> str:
    low, high = percent(estimate.low), percent(estimate.high)
    return f"{percent(estimate.mean)}% (95% interval {low} to {high})"
