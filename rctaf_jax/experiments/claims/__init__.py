"""The paper's claims put to the test: an estimate, an interval and a verdict for each."""

from .registry import CLAIMS, Claim, Judged, group_findings, judge_studies
from .registry import judge_folders as judge
from .verdict import Finding

__all__ = ["CLAIMS", "Claim", "Finding", "Judged", "group_findings", "judge", "judge_studies"]
