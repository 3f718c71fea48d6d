"""The family at a curvature of 7 is more robust than each baseline.

Differences are paired over the test images and seeds. A p value is the share of draws on the other
side of 0, corrected by Holm's method for all pairs of a beta and a baseline.
"""

import itertools
import math

import numpy as np

from rctaf_jax.experiments.show.wording import family_label

from .evidence import Measured
from .verdict import Finding, Unsaid, decide, share

CHOSEN_CURVATURE = 7.0
TABLE_1 = ("relu", "leaky_relu", "elu", "gelu", "swish", "mish")
_UNIT = "points"


def beats_baselines(claim: str, measured: Measured) -> list[Finding] | Unsaid:
    """Each beta at curvature 7 over each baseline of Table 1 that was trained."""
    from statsmodels.stats.multitest import multipletests  # a second, which only verdicts pay

    ours = [
        place
        for place, group in enumerate(measured.groups)
        if group.beta is not None and math.isclose(group.curvature, CHOSEN_CURVATURE, rel_tol=1e-6)
    ]
    theirs = [place for place, group in enumerate(measured.groups) if group.family in TABLE_1]
    pairs = list(itertools.product(ours, theirs))
    if not pairs:
        return Unsaid(
            f"it needs a network of curvature {CHOSEN_CURVATURE:g} and a baseline of Table 1"
        )
    differences = [measured.sample.draws[:, a] - measured.sample.draws[:, b] for a, b in pairs]
    values = [float(measured.sample.means[a] - measured.sample.means[b]) for a, b in pairs]
    better = multipletests([share(drawn <= 0) for drawn in differences], method="holm")[1]
    worse = multipletests([share(drawn >= 0) for drawn in differences], method="holm")[1]
    corrected = [(float(p), float(q)) for p, q in zip(better, worse, strict=True)]
    return [
        _finding(claim, measured, pair, value, drawn, ps)
        for pair, value, drawn, ps in zip(pairs, values, differences, corrected, strict=True)
    ]


def _finding(
    claim: str,
    measured: Measured,
    pair: tuple[int, int],
    value: float,
    drawn: np.ndarray,
    corrected: tuple[float, float],
) -> Finding:
    ours, theirs = (family_label(measured.groups[place].family) for place in pair)
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    return Finding(
        claim,
        measured.study,
        f"{ours} less {theirs}",
        100 * value,
        100 * low,
        100 * high,
        _UNIT,
        float(np.mean(drawn > 0)),
        share(drawn <= 0),
        share(drawn >= 0),
        decide(*corrected),
        f"Holm's p = {min(corrected):.2g}",
    )
