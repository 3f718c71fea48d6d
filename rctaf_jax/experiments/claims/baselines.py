"""The family at a curvature of 7 is more robust than each baseline.

Differences are paired over the test images. A p value is the share of draws on the other side of 0,
corrected by Holm's method for all pairs of a beta and a baseline.
"""

import itertools
import math

import numpy as np
from jaxtyping import Bool
from statsmodels.stats.multitest import multipletests

from ..wording import family_label
from .evidence import Measured
from .verdict import LEVEL, REFUTED, SUPPORTED, UNDECIDED, Finding, undecided

CHOSEN_CURVATURE = 7.0
TABLE_1 = ("relu", "leaky_relu", "elu", "gelu", "swish", "mish")
UNIT = "points"


def beats_baselines(claim: str, measured: Measured) -> list[Finding]:
    """Each beta at curvature 7 over each baseline of Table 1 that was trained."""
    ours = [
        place
        for place, group in enumerate(measured.groups)
        if group.beta is not None and math.isclose(group.curvature, CHOSEN_CURVATURE, rel_tol=1e-6)
    ]
    theirs = [place for place, group in enumerate(measured.groups) if group.family in TABLE_1]
    pairs = list(itertools.product(ours, theirs))
    if not pairs:
        note = f"it needs a network of curvature {CHOSEN_CURVATURE:g} and a baseline of Table 1"
        return [undecided(claim, measured.study, "", note)]
    differences = [measured.sample.draws[:, a] - measured.sample.draws[:, b] for a, b in pairs]
    values = [float(measured.sample.means[a] - measured.sample.means[b]) for a, b in pairs]
    better = multipletests([_share(drawn <= 0) for drawn in differences], method="holm")[1]
    worse = multipletests([_share(drawn >= 0) for drawn in differences], method="holm")[1]
    return [
        _finding(claim, measured, pair, value, drawn, float(p), float(q))
        for pair, value, drawn, p, q in zip(pairs, values, differences, better, worse, strict=True)
    ]


def _share(against: Bool[np.ndarray, " B"]) -> float:
    """Of draws; never 0, since there are only so many."""
    return float((1 + np.sum(against)) / (1 + len(against)))


def _finding(
    claim: str,
    measured: Measured,
    pair: tuple[int, int],
    value: float,
    drawn: np.ndarray,
    better: float,
    worse: float,
) -> Finding:
    ours, theirs = (family_label(measured.groups[place].family) for place in pair)
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    verdict = SUPPORTED if better < LEVEL else REFUTED if worse < LEVEL else UNDECIDED
    return Finding(
        claim,
        measured.study,
        f"{ours} less {theirs}",
        100 * value,
        100 * low,
        100 * high,
        UNIT,
        float(np.mean(drawn > 0)),
        verdict,
        f"Holm's p = {better:.2g}",
    )
