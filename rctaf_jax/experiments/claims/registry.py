"""The paper's claims, in its order, and how each is put to the test."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from rctaf_jax.experiments.results.grouping import grouped
from rctaf_jax.experiments.results.studies import Study, open_study
from rctaf_jax.experiments.show.wording import ALPHA, CURVATURE, count

from .baselines import beats_baselines
from .curvature_or_alpha import curvature_organises
from .divergence import answer_both_ways
from .evidence import (
    CLEAN,
    HESSIAN,
    ROBUST,
    Evidence,
    Lack,
    Measured,
    QuantityName,
    measure_quantity,
)
from .generality import same_elsewhere
from .peak import HESSIAN_MARGIN, ROBUST_MARGIN, peak_in_range
from .slopes import PERCENT, POINTS, beta_2_falls_fastest, one_sided
from .verdict import LEVEL, ClaimVerdict, Finding, Unsaid, overall

Find = Callable[[str, Measured], list[Finding] | Unsaid]


class Claim(NamedTuple):
    """A claim about each study.

    Attributes:
      name: short, and in every finding.
      text: what the paper says.
      source: where it says so.
      quantity: what it is about. Robust accuracy is judged of adversarially trained networks only;
        the others, which the paper measured after standard training, of networks trained so, or of
        the others where there are none.
      find: `(name, measured) -> findings`.
    """

    name: str
    text: str
    source: str
    quantity: QuantityName
    find: Find


class Judged(NamedTuple):
    """A claim, what all that it was put to says together, and each finding."""

    claim: Claim
    verdict: ClaimVerdict
    findings: Sequence[Finding]

    @property
    def tally(self) -> str:
        """How many findings say what, such as "1 supported, 2 not enough data"."""
        counts = Counter(finding.verdict for finding in self.findings)
        return ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())


def _peak(sign: int, margin: float) -> Find:
    return partial(peak_in_range, sign=sign, margin=margin)


def _side(side: str, sign: int, unit: str) -> Find:
    return partial(one_sided, side=side, sign=sign, unit=unit)


CLAIMS = (
    Claim(
        "robustness peaks in 4 to 10",
        f"Robust accuracy is highest where {CURVATURE} lies between 4 and 10.",
        "Figure 3, section 4.2",
        ROBUST,
        _peak(+1, ROBUST_MARGIN),
    ),
    Claim(
        f"curvature organises, not {ALPHA}",
        f"Below {CURVATURE} = 15 the betas agree at equal curvature, and differ at equal {ALPHA}.",
        "Figure 3, section 4.2",
        ROBUST,
        curvature_organises,
    ),
    Claim(
        "robustness rises below 4",
        f"Below {CURVATURE} = 4, more curvature makes networks more robust.",
        "section 4.2",
        ROBUST,
        _side("below", +1, POINTS),
    ),
    Claim(
        "robustness falls above 10",
        f"Above {CURVATURE} = 10, more curvature makes networks less robust.",
        "section 4.2",
        ROBUST,
        _side("above", -1, POINTS),
    ),
    Claim(
        "β = 2 falls fastest",
        f"Above {CURVATURE} = 10, β = 2 declines most steeply.",
        "section 4.2",
        ROBUST,
        beta_2_falls_fastest,
    ),
    Claim(
        "curvature 7 beats baselines",
        f"RCT-AF at {CURVATURE} = 7 is more robust than every common activation.",
        "Table 1, section 4.4",
        ROBUST,
        beats_baselines,
    ),
    Claim(
        "Hessian norm is lowest in 4 to 10",
        f"The Hessian norm is lowest where {CURVATURE} lies between 4 and 10.",
        "Figure 7(a), section 4.5",
        HESSIAN,
        _peak(-1, HESSIAN_MARGIN),
    ),
    Claim(
        "Hessian norm falls below 4",
        f"Below {CURVATURE} = 4, more curvature lowers the Hessian norm.",
        "Figure 7(a), section 4.5",
        HESSIAN,
        _side("below", -1, PERCENT),
    ),
    Claim(
        "Hessian norm rises above 10",
        f"Above {CURVATURE} = 10, more curvature raises the Hessian norm.",
        "Figure 7(a), section 4.5",
        HESSIAN,
        _side("above", +1, PERCENT),
    ),
    Claim(
        "clean accuracy falls below 4",
        f"Below {CURVATURE} = 4, less curvature lowers clean accuracy.",
        "Figure 7(b), section 4.5",
        CLEAN,
        _side("below", +1, POINTS),
    ),
)

ELSEWHERE = Claim(
    "the same elsewhere",
    "The range holds for other architectures, training methods and datasets.",
    "Figures 4 to 6, section 4.3",
    ROBUST,
    lambda name, measured: [],
)


def judge_folders(folders: Sequence[str | os.PathLike[str]]) -> list[Finding]:
    """Every claim put to the studies in results folders.

    Raises:
      InputError: if one of them is not a results folder.
    """
    return judge_studies([open_study(folder) for folder in folders])


def judge_studies(studies: Sequence[Study]) -> list[Finding]:
    """Every claim put to studies; nothing is found of none.

    Raises:
      InputError: if the outcomes of a network are not there.
    """
    if not studies:
        return []
    evidence = evidence_of(studies)
    findings = [found for claim in CLAIMS for found in judge_claim(claim, evidence[claim.quantity])]
    if robust := evidence[ROBUST]:
        known = [study for study in robust if isinstance(study, Evidence)]
        find = partial(same_elsewhere, ELSEWHERE.name)
        findings += _said(ELSEWHERE.name, [answer_both_ways(find, known)])
    return findings


def evidence_of(studies: Sequence[Study]) -> dict[QuantityName, list[Evidence | Lack]]:
    """For each quantity, that of the studies whose networks were trained for it."""
    adversarial = [study for study in studies if not is_standard(study)]
    standard = [study for study in studies if is_standard(study)] or adversarial
    asked = {ROBUST: adversarial, CLEAN: standard, HESSIAN: standard}
    return {
        quantity: [measure_quantity(study, quantity) for study in own]
        for quantity, own in asked.items()
    }


def is_standard(study: Study) -> bool:
    """Whether a study's networks were trained without attacks."""
    return study.results.config.train.method == "standard"


def judge_claim(claim: Claim, evidence: Sequence[Evidence | Lack]) -> list[Finding]:
    """One claim put to each study."""
    return _said(
        claim.name,
        [
            [Finding(claim.name, of.study, "", note=of.reason)]
            if isinstance(of, Lack)
            else answer_both_ways(lambda measured: claim.find(claim.name, *measured), [of])
            for of in evidence
        ],
    )


def _said(claim: str, answers: Sequence[list[Finding] | Unsaid]) -> list[Finding]:
    """The findings of studies that a claim is about, or why it is about none."""
    findings = [found for answer in answers if isinstance(answer, list) for found in answer]
    unsaid = [answer for answer in answers if isinstance(answer, Unsaid)]
    return findings or [Finding(claim, "", "", note=one.reason) for one in unsaid[:1]]


def group_findings(findings: Sequence[Finding]) -> list[Judged]:
    """Findings by claim, in the paper's order; claims that nothing speaks of are left out."""
    judged = []
    of_claim = grouped(findings, lambda finding: finding.claim)
    for claim in (*CLAIMS, ELSEWHERE):
        if own := of_claim.get(claim.name):
            judged.append(Judged(claim, overall(own), own))
    return judged


def errors_to_expect(judged: Sequence[Judged]) -> str:
    """How many of all findings chance alone would decide wrongly, at most and on average."""
    findings = [finding for one in judged for finding in one.findings]
    num = sum(one.p_for is not None or one.p_against is not None for one in findings)
    return (
        f"{count(num, 'finding')} could be decided. Chance decides each wrongly in at most 2.5 of "
        f"100 such studies on either side: of all of them at most {2 * LEVEL * num:.1f} on average."
    )
