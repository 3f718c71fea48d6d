"""The same range on other architectures, methods and datasets."""

from collections.abc import Sequence

import numpy as np

from ..wording import CURVATURE, PAPER_RANGE, family_label
from .evidence import Measured
from .peak import flatness
from .smooth import LEAST_POINTS, find_peaks
from .verdict import LEVEL, UNDECIDED, Finding, by_probability, undecided


def same_elsewhere(claim: str, studies: Sequence[Measured]) -> list[Finding]:
    """For each beta that studies of several kinds have, whether all its peaks lie in the range."""
    by_family: dict[str, list[tuple[str, bool, np.ndarray]]] = {}
    for study in studies:
        for curve in study.curves():
            if len(curve.means) >= LEAST_POINTS:
                peaks = find_peaks(curve.curvatures, curve.means, curve.draws)
                is_flat = flatness(curve, study.sample.noise) > LEVEL
                entry = (study.study, is_flat, peaks.draws)
                by_family.setdefault(curve.family, []).append(entry)
    several = {
        family: found
        for family, found in by_family.items()
        if len({study for study, _, _ in found}) > 1
    }
    if not several:
        note = "it needs two architectures, methods or datasets, each with five curvatures"
        return [undecided(claim, "", "", note)]
    return [_finding(claim, family, found) for family, found in several.items()]


def _finding(claim: str, family: str, found: Sequence[tuple[str, bool, np.ndarray]]) -> Finding:
    low, high = PAPER_RANGE
    inside = [float(np.mean((draws >= low) & (draws <= high))) for _, _, draws in found]
    probability = float(np.prod(inside))
    flat = sum(is_flat for _, is_flat, _ in found)
    farthest = max(found, key=lambda entry: abs(np.log(np.median(entry[2]) / np.sqrt(low * high))))
    ends = np.quantile(farthest[2], [0.025, 0.975])
    note = f"the farthest peak of {len(found)}: {farthest[0]}"
    if flat:
        note += f"; {flat} of {len(found)} curves cannot be told from flat ones"
    return Finding(
        claim,
        "",
        f"{family_label(family)}, {len(found)} studies",
        float(np.median(farthest[2])),
        float(ends[0]),
        float(ends[1]),
        CURVATURE,
        probability,
        UNDECIDED if flat else by_probability(probability),
        note,
    )
