"""The peak of robust accuracy, and the valley of the Hessian norm, lie between 4 and 10.

The estimate is the highest place of a smooth curve. A smooth curve has a highest place whatever
the truth is, though, a level one too, so the verdict comes from what was measured as well. The
curvatures tried are put together where they lie in one of the intervals

    ..., [1.6, 4), [4, 10], (10, 25], (25, 62.5], ...

of the range's own width on a logarithmic axis. The claim is supported if the smooth curve peaks in
the range and the range's mean is higher than that of every other interval tried, on both sides. It
is not supported if the smooth curve peaks elsewhere and some other interval's mean is higher than
the means of both halves of the range.
"""

import math

import numpy as np
from jaxtyping import Bool, Float

from rctaf_jax.experiments.show.wording import CURVATURE, PAPER_RANGE, family_label, number

from .evidence import FamilyCurve, Measured
from .sampling import Noise
from .smooth import LEAST_POINTS, Peaks, find_peaks
from .verdict import Finding, decide, share

FLAT_LEVEL = 0.05
FLAT = "differences between curvatures are no larger than chance, so there is no peak to place"
UNRESOLVED = "some norms are lost in the noise of their probes, and those are the lowest: take more"
_LOW, _HIGH = PAPER_RANGE
_MIDDLE = math.sqrt(_LOW * _HIGH)


def peak_in_range(claim: str, measured: Measured, sign: int) -> list[Finding]:
    """For each beta, where the smooth curve is highest (sign +1) or lowest (-1)."""
    return [find_peak(claim, measured, curve, sign) for curve in measured.curves()]


def find_peak(claim: str, measured: Measured, curve: FamilyCurve, sign: int) -> Finding:
    """One curve's peak and whether it lies in the range."""
    subject = family_label(curve.family)
    if curve.family in measured.unresolved:
        return Finding(claim, measured.study, subject, note=UNRESOLVED)
    if len(curve.means) < LEAST_POINTS:
        note = f"{len(curve.means)} curvatures; a smooth curve needs {LEAST_POINTS}"
        return Finding(claim, measured.study, subject, note=note)
    peaks = find_peaks(curve.curvatures, sign * curve.means, sign * curve.draws)
    probability = peaks.probability(*PAPER_RANGE)
    p_for, p_against = _p_values(curve.curvatures, sign * curve.draws, probability)
    return Finding(
        claim,
        measured.study,
        subject,
        peaks.place,
        *peaks.interval,
        CURVATURE,
        probability,
        p_for,
        p_against,
        decide(p_for, p_against),
        _note(curve, measured.sample.noise, peaks),
    )


def intervals(curvatures: Float[np.ndarray, " n"]) -> dict[int, Bool[np.ndarray, " n"]]:
    """Which curvatures lie in each interval that has any; 0 is the range, -1 the one below it.

    >>> {place: chosen.sum().item() for place, chosen in intervals(np.array([1, 4, 7, 99])).items()}
    {-2: 1, 0: 2, 3: 1}
    """
    width = math.log(_HIGH / _LOW)
    below = -np.ceil(np.log(_LOW / curvatures) / width - 1e-6)
    above = np.ceil(np.log(curvatures / _HIGH) / width - 1e-6)
    outside = np.where(curvatures < _MIDDLE, below, above).astype(int)
    places = np.where(_inside(curvatures, _LOW, _HIGH), 0, outside)
    return {int(place): places == place for place in np.unique(places)}


def _inside(curvatures: Float[np.ndarray, " n"], low: float, high: float) -> Bool[np.ndarray, " n"]:
    return (curvatures >= low * (1 - 1e-6)) & (curvatures <= high * (1 + 1e-6))


def _p_values(
    curvatures: Float[np.ndarray, " n"], draws: Float[np.ndarray, "B n"], probability: float
) -> tuple[float | None, float | None]:
    """For and against the range; None where the curvatures tried cannot say."""
    places = intervals(curvatures)
    if 0 not in places:  # nothing of the range was tried
        return None, None
    # An interval counts by the mean of what was tried in it, so that a finer grid in one of them
    # does not give it more chances to hold the highest value.
    means = {place: draws[:, chosen].mean(axis=1) for place, chosen in places.items()}
    inside = means.pop(0)
    if not means:
        return None, None
    # To stand against the range an interval must be above both of its halves: a peak at one end of
    # it is still inside, and the mean over all of it would hide that.
    halves = [
        draws[:, chosen].mean(axis=1)
        for low, high in ((_LOW, _MIDDLE), (_MIDDLE, _HIGH))
        if (chosen := _inside(curvatures, low, high)).any()
    ]
    # Of several conditions that must all hold, the least certain counts.
    higher = [share(inside <= outside) for outside in means.values()]
    lower = [max(share(outside <= half) for half in halves) for outside in means.values()]
    # Without a look at one side the peak may lie there; that it lies outside needs no such look.
    has_both_sides = min(means) < 0 < max(means)
    p_for = max(*higher, 1 - probability) if has_both_sides else None
    # Bonferroni: one of several intervals is easily above by chance. The curve's own probability
    # bounds both sides, since intervals do not see between the curvatures tried.
    return p_for, min(1.0, max(len(lower) * min(lower), probability))


def _note(curve: FamilyCurve, noise: Noise, peaks: Peaks) -> str:
    """What the place and its interval alone would not tell."""
    places = intervals(curve.curvatures)
    if 0 not in places:
        return f"no curvature from {number(_LOW)} to {number(_HIGH)} was tried"
    if flatness(curve, noise) > FLAT_LEVEL:
        return FLAT
    sides = {"below": min(places) < 0, "above": max(places) > 0}
    for side, is_tried in sides.items():
        if not is_tried:
            bound = _LOW if side == "below" else _HIGH
            return f"no curvature {side} {number(bound)} was tried: the peak may lie there"
    return f"at the {peaks.edge} curvature tried: it may lie beyond" if peaks.edge else ""


def flatness(curve: FamilyCurve, noise: Noise) -> float:
    """p value of the F test that all activations of a curve have the same mean."""
    from scipy.stats import f as f_distribution  # half a second, which only verdicts pay

    size = len(curve.means)
    if size < 2:
        return 1.0
    middle = np.average(curve.means, weights=curve.counts)
    between = float(np.sum(curve.counts * (curve.means - middle) ** 2)) / (size - 1)
    if noise.deviation == 0:
        return 0.0 if between > 0 else 1.0
    ratio = between / noise.deviation**2
    p = float(f_distribution.sf(ratio, size - 1, noise.freedom))
    return 1.0 if math.isnan(p) else p
