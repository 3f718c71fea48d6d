r"""Curvature, not alpha, is what the three betas have in common, below a curvature of 15.

At each place of the range that the betas share, on a logarithmic axis, let v be the variance of
their means (linear between neighbours). The claim is that v is larger at equal alpha than at
equal curvature, on average over the range. Both averages are quadratic in the activations' true
means m, so their difference is m^T A m with a known matrix A. Its estimate is free of the bias
that noise adds to a square,

    \bar x^T A \bar x - trace(A V),

V the covariance of the measured means \bar x over seeds and images, and its spread that of the
contrast 2 A \bar x. Where all betas are level this is larger than the true spread, so the test
errs less often there.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rctaf_jax.experiments.show.wording import ALPHA

from .contrast import LEAST_SEEDS, Estimate, seeds_in_common
from .evidence import Curve, Measured
from .peak import FEW_SEEDS
from .verdict import Finding, Unsaid, decide

MOST_CURVATURE = 15.0
_UNIT = f"points more spread at equal {ALPHA}"
_NUM_PLACES = 50


def curvature_organises(claim: str, measured: Measured) -> list[Finding] | Unsaid:
    """The spread between betas at equal alpha, beyond that at equal curvature."""
    curves = [_below(measured, curve) for curve in measured.curves()]
    curves = [curve for curve in curves if len(curve) > 1]
    if len(curves) < 2:
        return Unsaid(f"it needs two betas, each with two curvatures below {MOST_CURVATURE:g}")
    groups = measured.groups
    by_alpha = _interpolations([[groups[place].alpha or math.nan for place in c] for c in curves])
    by_curvature = _interpolations([[groups[place].curvature for place in c] for c in curves])
    finding = Finding(claim, measured.study, f"{len(curves)} betas")
    if by_alpha is None or by_curvature is None:
        note = "the betas have no range of alpha or curvature in common"
        return [finding._replace(note=note)]
    matrix = variance_between(by_alpha) - variance_between(by_curvature)
    found = estimate_quadratic(measured, [place for curve in curves for place in curve], matrix)
    if found is None:
        return [finding._replace(note=FEW_SEEDS)]
    value, low, high = (_root(end) for end in (found.value, *found.interval))
    p_for, p_against = found.p_above(), found.p_below()
    return [
        finding._replace(
            value=value,
            low=low,
            high=high,
            unit=_UNIT,
            p_for=p_for,
            p_against=p_against,
            verdict=decide(p_for, p_against),
        )
    ]


def estimate_quadratic(
    measured: Measured, places: Sequence[int], matrix: Float[np.ndarray, "k k"]
) -> Estimate | None:
    """m^T A m of the means at some places, without bias; None if too few seeds have all of them."""
    seeds = seeds_in_common(measured.values, places)
    if len(seeds) < LEAST_SEEDS:
        return None
    values = np.array([[measured.values[place][seed] for seed in seeds] for place in places])
    means, covariance = values.mean(axis=1), np.cov(values) / len(seeds)
    if measured.images is not None:
        covariance = covariance + measured.images.shared[np.ix_(places, places)]
    gradient = 2 * matrix @ means
    slope = measured.contrast(dict(zip(places, gradient.tolist(), strict=True)))
    value = float(means @ matrix @ means - np.sum(matrix * covariance))
    return None if slope is None else slope._replace(value=value)


def _root(difference: float) -> float:
    """Points, of a difference of variances of fractions; its sign is kept."""
    return 100 * math.copysign(math.sqrt(abs(difference)), difference)


def _below(measured: Measured, curve: Curve) -> list[int]:
    """Places of a curve's activations below the bound that have networks."""
    return [
        place
        for at, point in zip(curve.curvatures, curve.points, strict=True)
        for place in point
        if at <= MOST_CURVATURE * (1 + 1e-6) and measured.values[place]
    ]


def _interpolations(axes: Sequence[Sequence[float]]) -> list[np.ndarray] | None:
    """For each curve, the matrix to its values at places of the range that all share."""
    low, high = max(axis[0] for axis in axes), min(axis[-1] for axis in axes)
    if low >= high:
        return None
    places = np.linspace(np.log(low), np.log(high), _NUM_PLACES)
    return [
        np.stack([np.interp(places, np.log(axis), unit) for unit in np.eye(len(axis))], axis=1)
        for axis in axes
    ]


def variance_between(matrices: Sequence[Float[np.ndarray, "m n"]]) -> Float[np.ndarray, "k k"]:
    """The matrix of the variance between curves, averaged over places."""
    num = len(matrices)
    stacked = np.concatenate(matrices, axis=1)
    owner = np.repeat(np.arange(num), [matrix.shape[1] for matrix in matrices])
    share = (owner[:, None] == owner[None, :]) - 1 / num
    matrix: np.ndarray = share / (num - 1) * (stacked.T @ stacked) / len(stacked)
    return matrix
