"""Rising below a curvature of 4, falling above 10, and with beta 2 falling fastest.

A slope is least squares' over the activations on one side, per doubling of the curvature: in
percentage points for accuracies, in per cent (of the norm) for Hessian norms.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from rctaf_jax.experiments.show.wording import PAPER_RANGE, family_label

from .evidence import FamilyCurve, Measured
from .peak import UNRESOLVED
from .verdict import Finding, Unsaid, decide, share

POINTS, PERCENT = "points per doubling", "% per doubling"
_LEAST = 2
_NEEDS = "it needs beta 2 and another, each with two curvatures of 10 or more that both reach"


class Slope(NamedTuple):
    """Change per doubling, in hundredths, as measured and in every draw."""

    value: float
    draws: Float[np.ndarray, " B"]

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95% of the draws."""
        low, high = np.quantile(self.draws, [0.025, 0.975])
        return float(low), float(high)


def below(curve: FamilyCurve) -> Bool[np.ndarray, " n"]:
    """The activations up to a curvature of 4."""
    return curve.curvatures <= PAPER_RANGE[0] * (1 + 1e-6)


def above(curve: FamilyCurve) -> Bool[np.ndarray, " n"]:
    """The activations from a curvature of 10 on."""
    return curve.curvatures >= PAPER_RANGE[1] * (1 - 1e-6)


def slope(curve: FamilyCurve, chosen: Bool[np.ndarray, " n"]) -> Slope | None:
    """Least squares' slope over the chosen activations; None for fewer than two."""
    if chosen.sum() < _LEAST:
        return None
    x = np.log2(curve.curvatures[chosen])
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    return Slope(
        100 * float(curve.means[chosen] @ weights), 100 * (curve.draws[:, chosen] @ weights)
    )


def one_sided(claim: str, measured: Measured, side: str, sign: int, unit: str) -> list[Finding]:
    """For each beta, whether the quantity rises (sign +1) or falls (-1) on one side."""
    choose = {"below": below, "above": above}[side]
    findings = []
    for curve in measured.curves():
        subject, found = family_label(curve.family), slope(curve, choose(curve))
        if curve.family in measured.unresolved:
            findings.append(Finding(claim, measured.study, subject, note=UNRESOLVED))
            continue
        if found is None:
            findings.append(Finding(claim, measured.study, subject, note=_too_few(side)))
            continue
        p_for, p_against = share(sign * found.draws <= 0), share(sign * found.draws >= 0)
        value, low, high = (_in_unit(end, unit) for end in (found.value, *found.interval))
        findings.append(
            Finding(
                claim,
                measured.study,
                subject,
                value,
                low,
                high,
                unit,
                float(np.mean(sign * found.draws > 0)),
                p_for,
                p_against,
                decide(p_for, p_against),
                "",
            )
        )
    return findings


def _in_unit(hundredths: float, unit: str) -> float:
    """Per cent of a norm, of a change of its logarithm."""
    return 100 * math.expm1(hundredths / 100) if unit == PERCENT else hundredths


def beta_2_falls_fastest(claim: str, measured: Measured) -> list[Finding] | Unsaid:
    """Beta 2 falls above 10, and faster than each other beta over the curvatures of both."""
    curves = {curve.beta: curve for curve in measured.curves()}
    steepest = curves.pop(2, None)
    own = None if steepest is None else slope(steepest, above(steepest))
    if steepest is None or own is None:
        return Unsaid(_NEEDS)
    pairs = {beta: _slopes_of_both(steepest, curve) for beta, curve in curves.items()}
    known = {beta: pair for beta, pair in pairs.items() if pair is not None}
    if not known:
        return Unsaid(_NEEDS)
    values = [two.value - other.value for two, other in known.values()]
    draws = np.stack([two.draws - other.draws for two, other in known.values()])
    nearest = int(np.argmax(values))
    low, high = np.quantile(draws[nearest], [0.025, 0.975])
    p_for = max(share(own.draws >= 0), *(share(row >= 0) for row in draws))
    against = [share(own.draws <= 0), *(share(row <= 0) for row in draws)]
    p_against = min(1.0, len(against) * min(against))
    return [
        Finding(
            claim,
            measured.study,
            f"β = 2 less β = {list(known)[nearest]}",
            values[nearest],
            float(low),
            float(high),
            POINTS,
            float(np.mean((draws < 0).all(axis=0) & (own.draws < 0))),
            p_for,
            p_against,
            decide(p_for, p_against),
            f"beta 2 itself: {own.value:.3g} {POINTS}"
            + ("" if len(known) == 1 else f"; the nearest of {len(known)} others"),
        )
    ]


def _slopes_of_both(one: FamilyCurve, other: FamilyCurve) -> tuple[Slope, Slope] | None:
    """Slopes above 10 over the range that both curves have."""
    most = min(one.curvatures[-1], other.curvatures[-1]) * (1 + 1e-6)
    found = [slope(curve, above(curve) & (curve.curvatures <= most)) for curve in (one, other)]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _too_few(side: str) -> str:
    bound = f"up to {PAPER_RANGE[0]:g}" if side == "below" else f"from {PAPER_RANGE[1]:g} on"
    return f"fewer than two curvatures {bound}"
