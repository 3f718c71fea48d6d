r"""Curvature, not alpha, is what the three betas have in common, below a curvature of 15.

At each place of the range that the betas share, on a logarithmic axis, let v be the variance of
their means (linear between neighbours). The claim is that v is larger at equal alpha than at
equal curvature:

    sqrt(mean_alpha v) - sqrt(mean_curvature v) > 0.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rctaf_jax.experiments.show.wording import ALPHA

from .evidence import FamilyCurve, Measured
from .verdict import Finding, Unsaid, decide, share

MOST_CURVATURE = 15.0
_UNIT = f"points more spread at equal {ALPHA}"
_NUM_PLACES = 50


def curvature_organises(claim: str, measured: Measured) -> list[Finding] | Unsaid:
    """The spread between betas at equal alpha, less that at equal curvature."""
    curves = [_below(curve) for curve in measured.curves()]
    curves = [curve for curve in curves if len(curve.means) > 1]
    if len(curves) < 2:
        return Unsaid(f"it needs two betas, each with two curvatures below {MOST_CURVATURE:g}")
    by_alpha = _interpolations([curve.alphas for curve in curves])
    by_curvature = _interpolations([curve.curvatures for curve in curves])
    if by_alpha is None or by_curvature is None:
        note = "the betas have no range of alpha or curvature in common"
        return [Finding(claim, measured.study, "", note=note)]
    means = [curve.means[None] for curve in curves]
    draws = [curve.draws for curve in curves]
    value = float((spread_between(means, by_alpha) - spread_between(means, by_curvature))[0])
    drawn = spread_between(draws, by_alpha) - spread_between(draws, by_curvature)
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    p_for, p_against = share(drawn <= 0), share(drawn >= 0)
    return [
        Finding(
            claim,
            measured.study,
            f"{len(curves)} betas",
            100 * value,
            100 * low,
            100 * high,
            _UNIT,
            float(np.mean(drawn > 0)),
            p_for,
            p_against,
            decide(p_for, p_against),
            "",
        )
    ]


def _below(curve: FamilyCurve) -> FamilyCurve:
    """The part of a curve below the bound."""
    chosen = curve.curvatures <= MOST_CURVATURE * (1 + 1e-6)
    return curve._replace(
        curvatures=curve.curvatures[chosen],
        alphas=curve.alphas[chosen],
        means=curve.means[chosen],
        draws=curve.draws[:, chosen],
        counts=curve.counts[chosen],
    )


def _interpolations(axes: Sequence[Float[np.ndarray, " n"]]) -> list[np.ndarray] | None:
    """For each curve, the matrix to its values at places of the range that all share."""
    low, high = max(axis[0] for axis in axes), min(axis[-1] for axis in axes)
    if low >= high:
        return None
    places = np.linspace(np.log(low), np.log(high), _NUM_PLACES)
    return [
        np.stack([np.interp(places, np.log(axis), unit) for unit in np.eye(len(axis))], axis=1)
        for axis in axes
    ]


def spread_between(
    values: Sequence[Float[np.ndarray, "B n"]], matrices: Sequence[Float[np.ndarray, "m n"]]
) -> Float[np.ndarray, " B"]:
    """Root mean, over places, of the variance between curves."""
    stacked = np.stack([v @ m.T for v, m in zip(values, matrices, strict=True)])
    variance: np.ndarray = stacked.var(axis=0, ddof=1).mean(axis=-1)
    return np.sqrt(variance)
