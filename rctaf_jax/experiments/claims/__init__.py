"""The paper's claims put to the test: an estimate, an interval and a verdict for each."""

from .divergence import divergence_sentences
from .plan import Prospect, plan_claims
from .registry import CLAIMS, Claim, Judged, errors_to_expect, group_findings, judge_studies
from .registry import judge_folders as judge
from .verdict import Finding

__all__ = [
    "CLAIMS",
    "Claim",
    "Finding",
    "Judged",
    "Prospect",
    "divergence_sentences",
    "errors_to_expect",
    "group_findings",
    "judge",
    "judge_studies",
    "plan_claims",
]
