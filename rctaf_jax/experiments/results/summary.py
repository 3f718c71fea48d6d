r"""Members that differ in their seed only, as one line: a mean and its 95% interval.

A few seeds say little about their own spread, so it is pooled over all activations of a sweep,

    s^2 = sum_a sum_i (x_ai - mean_a)^2 / nu,        nu = sum_a (n_a - 1),
    mean_a -+ t_{0.975, nu} s / \sqrt{n_a},

which assumes that seeds matter about as much for one activation as for another. The interval
covers what other seeds would change, on the same test images. The Hessian norm is pooled in its
logarithm, since its spread grows with its size; its mean is the geometric one. Without any
repeated seed (nu = 0), accuracies have Wilson's interval for one test set instead, which covers
what other test images would change, and the norm the standard error over its probes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rctaf_jax.eval.accuracy import wilson_interval

from .grouping import by_activation
from .row import Row

STUDENT = "Student t, spread over seeds pooled over activations"
WILSON = "Wilson, one test set"
HUTCHINSON = "standard error over Hutchinson probes"

_NORMAL_975 = 1.959963984540054


class PooledSpread(NamedTuple):
    """Standard deviation over seeds, and its degrees of freedom."""

    deviation: float
    freedom: int


class IntervalEstimate(NamedTuple):
    """A mean, its 95% interval, and which kind of interval that is; NaN ends if there is none."""

    mean: float
    low: float
    high: float
    interval: str

    def overlaps(self, other: "IntervalEstimate") -> bool:
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
    clean: IntervalEstimate | None
    robust: IntervalEstimate | None
    hessian: IntervalEstimate | None
    num_unresolved: int


class _Spreads(NamedTuple):
    """The pooled spreads of a sweep; None where no seed was repeated, or all say the same."""

    clean: PooledSpread | None
    robust: PooledSpread | None
    log_norm: PooledSpread | None


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary for each (family, alpha), in the order of the rows."""
    groups = by_activation(rows)
    done = [[row for row in group if row.is_done] for group in groups]
    spreads = _Spreads(
        pool([_fractions(group, "clean_correct") for group in done]),
        pool([_fractions(group, "robust_correct") for group in done]),
        pool([[math.log(norm) for norm in _norms(group) or []] for group in done]),
    )
    return [_summary(group, spreads) for group in groups]


def pool(groups: Sequence[Sequence[float]]) -> PooledSpread | None:
    """The spread within groups, pooled over them; None if it is 0 or no group has two values.

    Example:
      >>> pool([[1.0, 3.0], [10.0, 12.0], [5.0]])
      PooledSpread(deviation=1.4142135623730951, freedom=2)
    """
    freedom = sum(len(group) - 1 for group in groups if group)
    squares = sum(
        float(np.sum((np.asarray(group) - np.mean(group)) ** 2)) for group in groups if group
    )
    return PooledSpread(math.sqrt(squares / freedom), freedom) if freedom and squares else None


def accuracy_estimate(
    fractions: Sequence[float], num_test: int, spread: PooledSpread | None
) -> IntervalEstimate:
    """Mean accuracy over seeds, each measured on the same `num_test` images.

    Example:
      >>> estimate = accuracy_estimate([0.5, 0.6], 100, PooledSpread(0.02, 10))
      >>> round(estimate.mean, 3), round(estimate.high, 3)
      (0.55, 0.582)
    """
    mean = float(np.mean(fractions))
    if spread is None:
        low, high = wilson_interval(round(mean * num_test), num_test)
        return IntervalEstimate(mean, float(low), float(high), WILSON)
    half = _half_width(spread, len(fractions))
    return IntervalEstimate(mean, max(mean - half, 0.0), min(mean + half, 1.0), STUDENT)


def norm_estimate(
    norms: Sequence[float], standard_error: float | None, spread: PooledSpread | None
) -> IntervalEstimate:
    """Geometric mean of the Hessian norm over seeds; `standard_error` is the first one's own.

    Example:
      >>> estimate = norm_estimate([1.0, 4.0], None, PooledSpread(0.1, 10))
      >>> round(estimate.mean, 3), round(estimate.high, 3)
      (2.0, 2.341)
    """
    mean = float(np.exp(np.mean(np.log(norms))))
    if spread is None:
        half = math.nan if standard_error is None else _NORMAL_975 * standard_error
        return IntervalEstimate(mean, max(mean - half, 0.0), mean + half, HUTCHINSON)
    factor = math.exp(_half_width(spread, len(norms)))
    return IntervalEstimate(mean, mean / factor, mean * factor, STUDENT)


def _half_width(spread: PooledSpread, num_values: int) -> float:
    from scipy.special import stdtrit  # a fifth of a second, which `rctaf --help` does not pay

    return float(stdtrit(spread.freedom, 0.975)) * spread.deviation / math.sqrt(num_values)


def _fractions(rows: Sequence[Row], name: str) -> list[float]:
    return [getattr(row, name) / row.num_test for row in rows if row.num_test]


def _norms(rows: Sequence[Row]) -> list[float] | None:
    """The norms of all rows; None if one is lost in its probes' noise."""
    norms = [row.hessian.rms for row in rows if row.hessian is not None]
    known = [norm for norm in norms if norm is not None]
    return known if len(known) == len(norms) else None


def _summary(rows: list[Row], spreads: _Spreads) -> Summary:
    done = [row for row in rows if row.is_done]
    first, clean, robust = (
        rows[0],
        _fractions(done, "clean_correct"),
        _fractions(done, "robust_correct"),
    )
    num_test = done[0].num_test if done else None
    norms = _norms(done)
    own_error = done[0].hessian.rms_standard_error if done and done[0].hessian else None
    return Summary(
        activation=first.activation,
        family=first.family,
        beta=first.beta,
        alpha=first.alpha,
        max_curvature=first.max_curvature,
        num_seeds=len(done),
        num_diverged=len(rows) - len(done),
        clean=accuracy_estimate(clean, num_test, spreads.clean) if num_test else None,
        robust=accuracy_estimate(robust, num_test, spreads.robust) if num_test else None,
        hessian=norm_estimate(norms, own_error, spreads.log_norm) if norms else None,
        num_unresolved=sum(row.hessian is not None and row.hessian.rms is None for row in done),
    )
