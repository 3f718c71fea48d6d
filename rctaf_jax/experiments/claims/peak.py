"""The peak of robust accuracy, and the valley of the Hessian norm, lie between 4 and 10."""

import math

import numpy as np
from scipy.stats import f as f_distribution

from ..wording import CURVATURE, PAPER_RANGE, family_label
from .evidence import Curve, Measured
from .sampling import Noise
from .smooth import LEAST_POINTS, Peaks, find_peaks
from .verdict import LEVEL, UNDECIDED, Finding, by_probability, undecided

FLAT = "differences between curvatures are no larger than chance, so there is no peak to place"


def peak_in_range(claim: str, measured: Measured, sign: int) -> list[Finding]:
    """For each beta, where the smooth curve is highest (sign +1) or lowest (-1)."""
    return [_find(claim, measured, curve, sign) for curve in measured.curves()]


def _find(claim: str, measured: Measured, curve: Curve, sign: int) -> Finding:
    subject = family_label(curve.family)
    if len(curve.means) < LEAST_POINTS:
        note = f"{len(curve.means)} curvatures; a smooth curve needs {LEAST_POINTS}"
        return undecided(claim, measured.study, subject, note)
    peaks = find_peaks(curve.curvatures, sign * curve.means, sign * curve.draws)
    probability = peaks.probability(*PAPER_RANGE)
    is_flat = flatness(curve, measured.sample.noise) > LEVEL
    return Finding(
        claim,
        measured.study,
        subject,
        peaks.place,
        *peaks.interval,
        CURVATURE,
        probability,
        UNDECIDED if is_flat else by_probability(probability),
        FLAT if is_flat else _caution(peaks, probability),
    )


def _caution(peaks: Peaks, probability: float) -> str:
    """What the place and its interval alone would not tell."""
    low, high = PAPER_RANGE
    if peaks.interval[0] < low and peaks.interval[1] > high and probability <= LEVEL:
        return "it may lie on either side of that range, and hardly in it"
    return f"at the {peaks.edge} curvature tried: it may lie beyond" if peaks.edge else ""


def flatness(curve: Curve, noise: Noise) -> float:
    """p value of the F test that all activations of a curve have the same mean."""
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
