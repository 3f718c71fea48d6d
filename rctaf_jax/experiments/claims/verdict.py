"""What a test of a claim says, and when it may say so."""

from typing import Literal, NamedTuple

from ..wording import number

Verdict = Literal["supported", "not supported", "not enough data"]
SUPPORTED: Verdict = "supported"
REFUTED: Verdict = "not supported"
UNDECIDED: Verdict = "not enough data"

LEVEL = 0.05


class Finding(NamedTuple):
    """One claim put to one set of networks.

    Attributes:
      claim: name of the claim.
      study: which networks, such as "trades, resnet18, cifar10"; empty if several together.
      subject: what of them, such as "RCT-AF β = 1"; empty if all.
      value, low, high: the estimate and its 95% interval, None if there is none.
      unit: of these three.
      probability: that the claim holds for these networks, None where no such number is defined.
      verdict: what can be said.
      note: why no more can be said, or what to mind.
    """

    claim: str
    study: str
    subject: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    probability: float | None
    verdict: Verdict
    note: str

    @property
    def estimate(self) -> str:
        """Value, interval and unit in words."""
        if self.value is None or self.low is None or self.high is None:
            return number(None)
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}] {self.unit}"


def undecided(claim: str, study: str, subject: str, note: str) -> Finding:
    """A finding without numbers: the data do not allow any."""
    return Finding(claim, study, subject, None, None, None, "", None, UNDECIDED, note)


def by_probability(probability: float) -> Verdict:
    """Supported from 95% on, not supported up to 5%.

    >>> by_probability(0.99), by_probability(0.5), by_probability(0.01)
    ('supported', 'not enough data', 'not supported')
    """
    if probability >= 1 - LEVEL:
        return SUPPORTED
    return REFUTED if probability <= LEVEL else UNDECIDED


def by_sign(low: float, high: float, sign: int) -> Verdict:
    """Whether a 95% interval lies wholly on the claimed side of 0, or wholly on the other.

    >>> by_sign(1.0, 2.0, +1), by_sign(-1.0, 2.0, +1), by_sign(1.0, 2.0, -1)
    ('supported', 'not enough data', 'not supported')
    """
    if low > 0 or high < 0:
        return SUPPORTED if (low > 0) == (sign > 0) else REFUTED
    return UNDECIDED


def overall(verdicts: list[Verdict]) -> Verdict:
    """Of a claim about all of several things: supported if each is, refuted if one is.

    >>> overall(["supported", "not enough data"]), overall(["supported", "not supported"])
    ('not enough data', 'not supported')
    """
    if REFUTED in verdicts:
        return REFUTED
    return SUPPORTED if verdicts and set(verdicts) == {SUPPORTED} else UNDECIDED
