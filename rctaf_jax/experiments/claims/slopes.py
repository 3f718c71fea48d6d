"""Rising below a curvature of 4, falling above 10, and with beta 2 falling fastest.

A slope is least squares' over the activations on one side, per doubling of the curvature: in
percentage points for accuracies, in per cent (of the norm) for Hessian norms.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ..wording import PAPER_RANGE, family_label
from .evidence import Curve, Measured
from .verdict import Finding, by_sign, overall, undecided

POINTS, PERCENT = "points per doubling", "% per doubling"
_LEAST = 2


class Slope(NamedTuple):
    """Change per doubling, in hundredths, as measured and in every draw."""

    value: float
    draws: Float[np.ndarray, " B"]

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95% of the draws."""
        low, high = np.quantile(self.draws, [0.025, 0.975])
        return float(low), float(high)


def below(curve: Curve) -> Bool[np.ndarray, " n"]:
    """The activations up to a curvature of 4."""
    return curve.curvatures <= PAPER_RANGE[0] * (1 + 1e-6)


def above(curve: Curve) -> Bool[np.ndarray, " n"]:
    """The activations from a curvature of 10 on."""
    return curve.curvatures >= PAPER_RANGE[1] * (1 - 1e-6)


def slope(curve: Curve, chosen: Bool[np.ndarray, " n"]) -> Slope | None:
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
        if found is None:
            findings.append(undecided(claim, measured.study, subject, _too_few(side)))
            continue
        low, high = found.interval
        share = float(np.mean(sign * found.draws > 0))
        verdict = by_sign(low, high, sign)
        findings.append(
            Finding(
                claim, measured.study, subject, found.value, low, high, unit, share, verdict, ""
            )
        )
    return findings


def beta_2_falls_fastest(claim: str, measured: Measured) -> list[Finding]:
    """The slope above 10 of beta 2, less that of each other beta."""
    slopes = {curve.beta: slope(curve, above(curve)) for curve in measured.curves()}
    steepest = slopes.pop(2, None)
    others = {beta: found for beta, found in slopes.items() if found is not None}
    if steepest is None or not others:
        note = "it needs beta 2 and another, each with two curvatures of 10 or more"
        return [undecided(claim, measured.study, "", note)]
    values = [steepest.value - found.value for found in others.values()]
    draws = np.stack([steepest.draws - found.draws for found in others.values()])
    nearest = int(np.argmax(values))
    lows, highs = np.quantile(draws, [0.025, 0.975], axis=1)
    verdict = overall([by_sign(low, high, -1) for low, high in zip(lows, highs, strict=True)])
    rival = list(others)[nearest]
    return [
        Finding(
            claim,
            measured.study,
            f"β = 2 less β = {rival}",
            values[nearest],
            float(lows[nearest]),
            float(highs[nearest]),
            POINTS,
            float(np.mean((draws < 0).all(axis=0))),
            verdict,
            "" if len(others) == 1 else f"the nearest of {len(others)} others",
        )
    ]


def _too_few(side: str) -> str:
    bound = f"up to {PAPER_RANGE[0]:g}" if side == "below" else f"from {PAPER_RANGE[1]:g} on"
    return f"fewer than two curvatures {bound}"
