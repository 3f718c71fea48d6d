r"""Members that differ in their seed only, as one line: a mean and its 95% interval.

What a seed does to all activations tells none from another, so it is taken out, as verdicts do:
with c_i the mean of seed i over the G activations that have every seed,

    s_a^2 = G / (G - 1) var_i(x_ai - c_i),
    mean_a -+ t_{0.975, n_a - 1} s_a / \sqrt{n_a}

(Cousineau 2005, Morey 2008). The interval says what other seeds would change, on the same test
images; each activation has the spread of its own seeds. With fewer than three seeds there is none.
The Hessian norm is treated in its logarithm, since its spread grows with its size; its mean is the
geometric one.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .grouping import by_activation
from .row import Row

LEAST_SEEDS = 3


class IntervalEstimate(NamedTuple):
    """A mean and its 95% interval; NaN ends where there is none."""

    mean: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_interval(self) -> bool:
        """Whether there were seeds enough for one."""
        return not math.isnan(self.low)


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


def summarise(rows: Sequence[Row]) -> list[Summary]:
    """One summary for each (family, alpha), in the order of the rows."""
    groups = by_activation(rows)
    done = [[row for row in group if row.is_done] for group in groups]
    clean, robust = (
        [_clipped(estimate) for estimate in paired_estimates([_fractions(g, name) for g in done])]
        for name in ("clean_correct", "robust_correct")
    )
    norms = [_exponential(one) for one in paired_estimates([_log_norms(g) for g in done])]
    return [_summary(*found) for found in zip(groups, clean, robust, norms, strict=True)]


def paired_estimates(values: Sequence[Mapping[int, float]]) -> list[IntervalEstimate | None]:
    """Means with intervals, what a seed does to all taken out; None where there is no value.

    Args:
      values: for each activation, by seed.

    Example:
      >>> one, other = paired_estimates([{0: 1.0, 1: 2.0, 2: 3.0}, {0: 1.0, 1: 2.0, 2: 3.3}])
      >>> one.mean, round(one.high - one.mean, 3)
      (2.0, 0.304)
    """
    seeds = set().union(*values)
    whole = [own for own in values if seeds and set(own) == seeds]
    size = len(whole)
    if size < 2:
        return [_estimate(own, dict.fromkeys(seeds, 0.0), 1.0) for own in values]
    common = {seed: float(np.mean([own[seed] for own in whole])) for seed in seeds}
    return [
        _estimate(own, common, size / (size - 1) if set(own) == seeds else 1.0) for own in values
    ]


def _estimate(
    own: Mapping[int, float], common: Mapping[int, float], factor: float
) -> IntervalEstimate | None:
    """A mean, its interval from what seeds do to this activation alone."""
    from scipy.special import stdtrit  # a fifth of a second, which `rctaf --help` does not pay

    if not own:
        return None
    mean, num = float(np.mean(list(own.values()))), len(own)
    if num < LEAST_SEEDS:
        return IntervalEstimate(mean)
    rest = [value - common[seed] for seed, value in own.items()]
    half = float(stdtrit(num - 1, 0.975)) * math.sqrt(factor * np.var(rest, ddof=1) / num)
    return IntervalEstimate(mean, mean - half, mean + half)


def _clipped(estimate: IntervalEstimate | None) -> IntervalEstimate | None:
    """An accuracy's interval stays between 0 and 1."""
    if estimate is None or not estimate.has_interval:
        return estimate
    return estimate._replace(low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def _exponential(estimate: IntervalEstimate | None) -> IntervalEstimate | None:
    return None if estimate is None else IntervalEstimate(*map(math.exp, estimate))


def _fractions(rows: Sequence[Row], name: str) -> dict[int, float]:
    return {row.seed: getattr(row, name) / row.num_test for row in rows if row.num_test}


def _log_norms(rows: Sequence[Row]) -> dict[int, float]:
    """Of all rows that were measured; of none if one is lost in its probes' noise."""
    norms = {row.seed: row.hessian.rms for row in rows if row.hessian is not None}
    known = {seed: norm for seed, norm in norms.items() if norm is not None}
    return {seed: _log(norm) for seed, norm in known.items()} if len(known) == len(norms) else {}


def _log(norm: float) -> float:
    return math.log(norm) if norm > 0 else -math.inf


def _summary(
    rows: list[Row],
    clean: IntervalEstimate | None,
    robust: IntervalEstimate | None,
    hessian: IntervalEstimate | None,
) -> Summary:
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
        clean=clean,
        robust=robust,
        hessian=hessian,
        num_unresolved=sum(row.hessian is not None and row.hessian.rms is None for row in done),
    )
