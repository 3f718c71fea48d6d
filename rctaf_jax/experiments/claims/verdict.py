"""What a test of a claim says, and when it may say so.

Each finding has two p values: how easily chance alone would speak as much for the claim as the
numbers do, and as much against it. Either verdict takes at most 2.5%, which is where a 95% interval
leaves 0 on one side; all else is not enough data.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rctaf_jax.experiments.show.wording import number

ClaimVerdict = Literal["supported", "not supported", "not enough data"]
SUPPORTED: ClaimVerdict = "supported"
REFUTED: ClaimVerdict = "not supported"
UNDECIDED: ClaimVerdict = "not enough data"

LEVEL = 0.025
TOGETHER = "all β together"
"""How the subject of a finding about the mean over betas begins."""


class Finding(NamedTuple):
    """One claim put to one set of networks; undecided where the data do not allow any number.

    Attributes:
      claim: name of the claim.
      study: which networks, such as "trades, resnet18, cifar10"; empty if several together.
      subject: what of them, such as "RCT-AF β = 1"; empty if all.
      value, low, high: the estimate and its 95% interval, None if there is none.
      unit: of these three.
      p_for, p_against: how often at most chance alone would speak so clearly for the claim if it
        were false, and against it if it were true, this finding alone; None where nothing was
        tested.
      verdict: what can be said.
      note: why no more can be said, or what to mind.
    """

    claim: str
    study: str
    subject: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    p_for: float | None = None
    p_against: float | None = None
    verdict: ClaimVerdict = UNDECIDED
    note: str = ""

    @property
    def estimate(self) -> str:
        """Value, interval and unit in words."""
        if self.value is None or self.low is None or self.high is None:
            return number(None)
        # Rounded first, or a difference that is 0 would show what rounding left of it.
        value, low, high = (round(x, 9) + 0.0 for x in (self.value, self.low, self.high))
        return f"{value:.3g} [{low:.3g}, {high:.3g}] {self.unit}"


class Unsaid(NamedTuple):
    """A study that a claim is not about, and why; it speaks neither for nor against it."""

    reason: str


def decide(p_for: float | None, p_against: float | None) -> ClaimVerdict:
    """The verdict of two p values; None never decides.

    >>> decide(0.01, 0.99), decide(0.3, 0.7), decide(0.99, 0.01), decide(None, None)
    ('supported', 'not enough data', 'not supported', 'not enough data')
    """
    if p_for is not None and p_for <= LEVEL:
        return SUPPORTED
    return REFUTED if p_against is not None and p_against <= LEVEL else UNDECIDED


def overall(findings: Sequence[Finding]) -> ClaimVerdict:
    """The verdict of a claim that is about all of several things.

    Supported if each is, all betas together standing for each of them, and none is not: that all
    should err is rarer than that one does. Not supported if one is not with certainty enough to
    stand out among so many (Bonferroni), since one of many errs easily.
    """
    against = [finding.p_against for finding in findings if finding.p_against is not None]
    if against and min(against) * len(against) <= LEVEL:
        return REFUTED
    joint = {finding.study for finding in findings if _is_joint(finding)}
    deciding = [one for one in findings if _is_joint(one) or one.study not in joint]
    is_supported = bool(deciding) and all(found.verdict == SUPPORTED for found in deciding)
    is_opposed = any(finding.verdict == REFUTED for finding in findings)
    return SUPPORTED if is_supported and not is_opposed else UNDECIDED


def _is_joint(finding: Finding) -> bool:
    return finding.subject.startswith(TOGETHER)
