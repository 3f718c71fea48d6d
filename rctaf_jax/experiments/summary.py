r"""Members that differ in their seed only, as one line: a mean and its 95% interval.

With n > 1 seeds the interval is Student's t over them,

    mean +- t_{0.975, n-1} s / \sqrt{n},

so it covers what another seed would change, on the same test images. With one seed, or with
seeds whose counts are all equal (a spread of 0 says nothing), accuracies have Wilson's interval
for one test set instead, which covers what other test images would change.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from ..eval.accuracy import wilson_interval
from .results import Row

STUDENT = "Student t over seeds"
WILSON = "Wilson, one test set"
HUTCHINSON = "standard error over Hutchinson probes"

_NORMAL_975 = 1.959963984540054


class Estimate(NamedTuple):
    """A mean, its 95% interval, and which kind of interval that is; NaN ends if there is none."""

    mean: float
    low: float
    high: float
    interval: str

    def overlaps(self, other: "Estimate") -> bool:
        """Whether the two intervals have a point in common; never if one has no interval."""
        return self.low <= other.high and other.low <= self.high


class Summary(NamedTuple):
    """One activation over its seeds.

    Attributes:
      activation, family, beta, alpha, max_curvature: as in `Row`.
      num_seeds: members measured.
      num_diverged: members that diverged; the estimates are over the others.
      clean, robust: accuracies, fractions of the test images; None if all members diverged.
      hessian: the Hessian norm (8), or None.
      num_unresolved: measured members whose mean square is negative, lost in the probes' noise.
        Then `hessian` is None, since a mean over the others alone would be too large.
    """

    activation: str
    family: str
    beta: int | None
    alpha: float | None
    max_curvature: float
    num_seeds: int
    num_diverged: int
    clean: Estimate | None
    robust: Estimate | None
    hessian: Estimate | None
    num_unresolved: int


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary for each (family, alpha), in the order of the rows."""
    groups: dict[tuple[str, float | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.family, row.alpha), []).append(row)
    return [_summary(group) for group in groups.values()]


def accuracy_estimate(correct: Sequence[int], num_test: int) -> Estimate:
    """Mean accuracy over seeds, each measured on the same `num_test` images.

    Example:
      >>> estimate = accuracy_estimate([50, 60], 100)
      >>> round(estimate.mean, 3), estimate.interval
      (0.55, 'Student t over seeds')
    """
    fractions = np.asarray(correct) / num_test
    if len(set(correct)) == 1:
        low, high = wilson_interval(correct[0], num_test)
        return Estimate(float(fractions[0]), float(low), float(high), WILSON)
    estimate = _student(fractions)
    return estimate._replace(low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def _summary(rows: list[Row]) -> Summary:
    done = [row for row in rows if row.is_done]
    first = rows[0]
    return Summary(
        activation=first.activation,
        family=first.family,
        beta=first.beta,
        alpha=first.alpha,
        max_curvature=first.max_curvature,
        num_seeds=len(done),
        num_diverged=len(rows) - len(done),
        clean=_accuracy([(row.clean_correct, row.num_test) for row in done]),
        robust=_accuracy([(row.robust_correct, row.num_test) for row in done]),
        hessian=_hessian_estimate(done),
        num_unresolved=sum(row.hessian is not None and row.hessian.rms is None for row in done),
    )


def _accuracy(counts: list[tuple[int | None, int | None]]) -> Estimate | None:
    known = [(correct, total) for correct, total in counts if correct is not None and total]
    return accuracy_estimate([correct for correct, _ in known], known[0][1]) if known else None


def _hessian_estimate(rows: list[Row]) -> Estimate | None:
    measured = [row.hessian for row in rows if row.hessian is not None]
    resolved = [(norm.rms, norm.rms_standard_error) for norm in measured if norm.rms is not None]
    if not measured or len(resolved) < len(measured):
        return None
    norms = [rms for rms, _ in resolved]
    if len(norms) > 1:
        estimate = _student(np.asarray(norms))
    else:
        error = resolved[0][1]
        half = math.nan if error is None else _NORMAL_975 * error
        estimate = Estimate(norms[0], norms[0] - half, norms[0] + half, HUTCHINSON)
    is_negative = estimate.low < 0
    return estimate._replace(low=0.0) if is_negative else estimate


def _student(values: np.ndarray) -> Estimate:
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))
    half = float(stdtrit(len(values) - 1, 0.975)) * error
    return Estimate(mean, mean - half, mean + half, STUDENT)
