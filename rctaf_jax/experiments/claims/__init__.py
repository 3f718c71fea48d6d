"""The paper's claims put to the test: an estimate, an interval and a verdict for each."""

from .registry import CLAIMS, ELSEWHERE, Claim, judge
from .verdict import Finding

__all__ = ["CLAIMS", "ELSEWHERE", "Claim", "Finding", "judge"]
