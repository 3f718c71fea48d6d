"""The family at a curvature of 7 is more robust than each baseline.

Differences are contrasts, worked out seed by seed. p values are corrected by Holm's method: for
all baselines that the betas are put to together, and for all pairs of a beta and a baseline.
"""

import itertools
import math
from collections.abc import Sequence

from rctaf_jax.experiments.show.wording import family_label

from .contrast import Estimate
from .evidence import Measured, Weights, less
from .peak import FEW_SEEDS
from .verdict import TOGETHER, Finding, Unsaid, decide

CHOSEN_CURVATURE = 7.0
TABLE_1 = ("relu", "leaky_relu", "elu", "gelu", "swish", "mish")
_UNIT = "points"


def beats_baselines(claim: str, measured: Measured) -> list[Finding] | Unsaid:
    """At curvature 7, all betas together and each, over each baseline of Table 1 there is."""
    groups = measured.groups
    ours = [
        place
        for place, group in enumerate(groups)
        if group.beta is not None and math.isclose(group.curvature, CHOSEN_CURVATURE, rel_tol=1e-6)
    ]
    theirs = [place for place, group in enumerate(groups) if group.family in TABLE_1]
    if not ours or not theirs:
        return Unsaid(
            f"it needs a network of curvature {CHOSEN_CURVATURE:g} and a baseline of Table 1"
        )
    each: dict[str, Weights] = {family_label(groups[place].family): {place: 1.0} for place in ours}
    together: dict[str, Weights] = {TOGETHER: dict.fromkeys(ours, 1 / len(ours))}
    baselines: dict[str, Weights] = {
        family_label(groups[place].family): {place: 1.0} for place in theirs
    }
    found = _compared(claim, measured, each, baselines)
    return _compared(claim, measured, together, baselines) + found if len(ours) > 1 else found


def _compared(
    claim: str, measured: Measured, ours: dict[str, Weights], theirs: dict[str, Weights]
) -> list[Finding]:
    """Findings of every pair, corrected for all of them."""
    findings = {
        f"{one} less {other}": measured.contrast(less(ours[one], theirs[other]))
        for one, other in itertools.product(ours, theirs)
    }
    known = {subject: found for subject, found in findings.items() if found is not None}
    corrected = dict(zip(known, _holm(list(known.values())), strict=True))
    return [
        _finding(Finding(claim, measured.study, subject), known[subject], *corrected[subject])
        if subject in known
        else Finding(claim, measured.study, subject, note=FEW_SEEDS)
        for subject in findings
    ]


def _holm(found: Sequence[Estimate]) -> list[tuple[float, float]]:
    """Corrected p values that each is better, and that it is worse."""
    from statsmodels.stats.multitest import multipletests  # a second, which only verdicts pay

    if not found:
        return []
    better = multipletests([one.p_above() for one in found], method="holm")[1]
    worse = multipletests([one.p_below() for one in found], method="holm")[1]
    return [(float(p), float(q)) for p, q in zip(better, worse, strict=True)]


def _finding(finding: Finding, found: Estimate, better: float, worse: float) -> Finding:
    """One difference; its p values are its own, its verdict and note those of all together."""
    low, high = found.interval
    return finding._replace(
        value=100 * found.value,
        low=100 * low,
        high=100 * high,
        unit=_UNIT,
        p_for=found.p_above(),
        p_against=found.p_below(),
        verdict=decide(better, worse),
        note=f"Holm's p = {min(better, worse):.2g}",
    )
