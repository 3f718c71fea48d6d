"""Networks that diverged: how many at which curvature, and verdicts that hang on them.

A claim is put to the networks that were measured, and again with the accuracy of guessing for each
that diverged. Where the two verdicts differ there is none.
"""

from collections.abc import Callable, Sequence

from rctaf_jax.experiments.results.grouping import grouped
from rctaf_jax.experiments.results.studies import Study
from rctaf_jax.experiments.show.wording import CURVATURE, number

from .evidence import Evidence, Measured
from .verdict import UNDECIDED, Finding, Unsaid

Answer = list[Finding] | Unsaid


def answer_both_ways(
    find: Callable[[list[Measured]], Answer], evidence: Sequence[Evidence]
) -> Answer:
    """What is found of studies, the less sure of the two where networks diverged."""
    surviving = find([one.surviving for one in evidence])
    if all(one.counting is None for one in evidence):
        return surviving
    counting = find([one.counting or one.surviving for one in evidence])
    if isinstance(surviving, Unsaid) or isinstance(counting, Unsaid):
        return surviving
    return [less_sure(one, other) for one, other in zip(surviving, counting, strict=True)]


def less_sure(surviving: Finding, counting: Finding) -> Finding:
    """One finding of two; the estimate is that of the networks that did not diverge."""
    found = surviving._replace(
        p_for=_larger(surviving.p_for, counting.p_for),
        p_against=_larger(surviving.p_against, counting.p_against),
    )
    if surviving.verdict == counting.verdict:
        return found
    note = (
        f"{surviving.verdict} by the networks that did not diverge, {counting.verdict} where a "
        "diverged one counts as guessing"
    )
    return found._replace(verdict=UNDECIDED, note="; ".join(filter(None, [note, found.note])))


def _larger(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def divergence_sentences(studies: Sequence[Study]) -> list[str]:
    """For each study of which networks diverged, their share at every such curvature."""
    sentences = []
    for study in studies:
        by_curvature = grouped(study.results.rows, lambda row: round(row.max_curvature, 6))
        shares = [
            f"{sum(not row.is_done for row in rows)} of {len(rows)} at {number(curvature)}"
            for curvature, rows in sorted(by_curvature.items())
            if not all(row.is_done for row in rows)
        ]
        if shares:
            sentences.append(f"{study.title}: diverged, by {CURVATURE}: {', '.join(shares)}.")
    return sentences
