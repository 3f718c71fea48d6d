"""Rising below a curvature of 4, falling above 10, and with beta 2 falling fastest.

A slope is least squares' over the activations on one side, per doubling of the curvature: in
percentage points for accuracies, in per cent (of the norm) for Hessian norms. It is a contrast,
worked out seed by seed.
"""

import math

import numpy as np
from jaxtyping import Bool

from rctaf_jax.experiments.show.wording import PAPER_RANGE

from .contrast import Estimate
from .evidence import Curve, Measured, Weights, less
from .peak import FEW_SEEDS, UNRESOLVED
from .verdict import Finding, Unsaid, decide

POINTS, PERCENT = "points per doubling", "% per doubling"
_LEAST = 2
_NEEDS = "it needs beta 2 and another, each with two curvatures of 10 or more that both reach"


def below(curve: Curve) -> Bool[np.ndarray, " n"]:
    """The activations up to a curvature of 4."""
    return curve.curvatures <= PAPER_RANGE[0] * (1 + 1e-6)


def above(curve: Curve) -> Bool[np.ndarray, " n"]:
    """The activations from a curvature of 10 on."""
    return curve.curvatures >= PAPER_RANGE[1] * (1 - 1e-6)


def slope_weights(
    measured: Measured, curve: Curve, chosen: Bool[np.ndarray, " n"]
) -> Weights | None:
    """Least squares' slope over the chosen points that have networks; None for fewer than two."""
    places = [i for i in np.flatnonzero(chosen) if measured.has_values(curve.points[i])]
    if len(places) < _LEAST:
        return None
    x = np.log2(curve.curvatures[places])
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    return {
        activation: float(weight * share)
        for place, weight in zip(places, weights, strict=True)
        for activation, share in curve.points[place].items()
    }


def one_sided(claim: str, measured: Measured, side: str, sign: int, unit: str) -> list[Finding]:
    """Whether the quantity rises (sign +1) or falls (-1) on one side: all betas, then each."""
    choose = {"below": below, "above": above}[side]
    findings = []
    for curve in measured.all_curves():
        finding = Finding(claim, measured.study, curve.subject)
        weights = slope_weights(measured, curve, choose(curve))
        found = None if weights is None else measured.contrast(weights)
        if measured.unresolved & set(curve.families):
            finding = finding._replace(note=UNRESOLVED)
        elif weights is None:
            finding = finding._replace(note=_too_few(side))
        elif found is None:
            finding = finding._replace(note=FEW_SEEDS)
        else:
            finding = _judged(finding, found, sign, unit)
        findings.append(finding)
    return findings


def _judged(finding: Finding, found: Estimate, sign: int, unit: str) -> Finding:
    p_for, p_against = found.p_above(), found.p_below()
    if sign < 0:
        p_for, p_against = p_against, p_for
    value, low, high = (_in_unit(end, unit) for end in (found.value, *found.interval))
    return finding._replace(
        value=value,
        low=low,
        high=high,
        unit=unit,
        p_for=p_for,
        p_against=p_against,
        verdict=decide(p_for, p_against),
    )


def _in_unit(change: float, unit: str) -> float:
    """Points of a fraction's change; per cent of a norm, of a change of its logarithm."""
    return 100 * math.expm1(min(change, 700.0)) if unit == PERCENT else 100 * change


def beta_2_falls_fastest(claim: str, measured: Measured) -> list[Finding] | Unsaid:
    """Beta 2 falls above 10, and faster than each other beta over the curvatures of both."""
    curves = {_beta(measured, curve): curve for curve in measured.curves()}
    steepest = curves.pop(2, None)
    own = None if steepest is None else slope_weights(measured, steepest, above(steepest))
    if steepest is None or own is None:
        return Unsaid(_NEEDS)
    pairs = {beta: _over_both(measured, steepest, curve) for beta, curve in curves.items()}
    known = {beta: pair for beta, pair in pairs.items() if pair is not None}
    if not known:
        return Unsaid(_NEEDS)
    alone = measured.contrast(own)
    found = {beta: measured.contrast(pair) for beta, pair in known.items()}
    estimates = {beta: estimate for beta, estimate in found.items() if estimate is not None}
    if alone is None or len(estimates) < len(found):
        return [Finding(claim, measured.study, "β = 2", note=FEW_SEEDS)]
    nearest = max(estimates, key=lambda beta: estimates[beta].value)
    p_for = max(one.p_below() for one in (alone, *estimates.values()))
    against = [one.p_above() for one in (alone, *estimates.values())]
    p_against = min(1.0, len(against) * min(against))
    low, high = estimates[nearest].interval
    return [
        Finding(
            claim,
            measured.study,
            f"β = 2 less β = {nearest}",
            100 * estimates[nearest].value,
            100 * low,
            100 * high,
            POINTS,
            p_for,
            p_against,
            decide(p_for, p_against),
            f"beta 2 itself: {100 * alone.value:.3g} {POINTS}"
            + ("" if len(known) == 1 else f"; the nearest of {len(known)} others"),
        )
    ]


def _beta(measured: Measured, curve: Curve) -> int | None:
    (place,) = curve.points[0]
    return measured.groups[place].beta


def _over_both(measured: Measured, one: Curve, other: Curve) -> Weights | None:
    """The difference of slopes above 10 over the range that both curves have."""
    most = min(one.curvatures[-1], other.curvatures[-1]) * (1 + 1e-6)
    found = [
        slope_weights(measured, curve, above(curve) & (curve.curvatures <= most))
        for curve in (one, other)
    ]
    return None if found[0] is None or found[1] is None else less(found[0], found[1])


def _too_few(side: str) -> str:
    bound = f"up to {PAPER_RANGE[0]:g}" if side == "below" else f"from {PAPER_RANGE[1]:g} on"
    return f"fewer than two curvatures {bound} with a network"
