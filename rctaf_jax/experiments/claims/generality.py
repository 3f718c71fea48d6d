"""Whether the range from 4 to 10 holds on other architectures, methods and datasets."""

from collections.abc import Sequence

import numpy as np

from rctaf_jax.experiments.show.wording import CURVATURE, PAPER_RANGE, family_label

from .evidence import Measured
from .peak import ROBUST_MARGIN, find_peak
from .verdict import SUPPORTED, Finding, Unsaid, overall


def same_elsewhere(claim: str, studies: Sequence[Measured]) -> list[Finding] | Unsaid:
    """For each beta that studies of several kinds have, whether all its peaks lie in the range."""
    by_family: dict[str, list[Finding]] = {}
    for study in studies:
        for curve in study.curves():
            found = find_peak(claim, study, curve, +1, ROBUST_MARGIN)
            by_family.setdefault(curve.families[0], []).append(found)
    several = {
        family: found
        for family, found in by_family.items()
        if len({finding.study for finding in found}) > 1
    }
    if not several:
        return Unsaid(
            "it needs two architectures, methods or datasets, each with a curve of a beta"
        )
    return [_finding(claim, family, found) for family, found in several.items()]


def _finding(claim: str, family: str, found: Sequence[Finding]) -> Finding:
    """Several studies' peaks together; the estimate is that of the one farthest from the range."""
    low, high = PAPER_RANGE
    farthest = max(found, key=lambda one: abs(np.log((one.value or 1.0) / np.sqrt(low * high))))
    against = [one.p_against for one in found if one.p_against is not None]
    certain = [one.p_for for one in found]
    num_supported = sum(one.verdict == SUPPORTED for one in found)
    return Finding(
        claim,
        "",
        f"{family_label(family)}, {len(found)} studies",
        farthest.value,
        farthest.low,
        farthest.high,
        CURVATURE,
        None if None in certain else max(p for p in certain if p is not None),
        min(1.0, len(against) * min(against)) if against else None,
        overall(found),
        f"the farthest peak is that of {farthest.study}; the claim alone is supported in "
        f"{num_supported} of {'; '.join(dict.fromkeys(one.study for one in found))}",
    )
