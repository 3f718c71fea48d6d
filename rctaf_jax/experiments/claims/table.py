"""Verdicts for the terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from rctaf_jax.experiments.show.wording import probability

from .registry import Judged


def claims_table(judged: Sequence[Judged]) -> Table:
    """Each claim with what all say together, and below it every finding."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for column in ("claim", "estimate, 95% interval", "P", "verdict"):
        table.add_column(column, overflow="fold", no_wrap=column == "verdict")
    studies = {finding.study for one in judged for finding in one.findings} - {""}
    for one in judged:
        table.add_row(Text(one.claim.text, "bold"), "", "", Text(one.verdict, "bold"))
        for finding in one.findings:
            words = [finding.study, finding.subject] if len(studies) > 1 else [finding.subject]
            table.add_row(
                Text("  " + ", ".join(filter(None, words))),
                Text("\n".join(filter(None, [finding.estimate, finding.note]))),
                Text(probability(finding.probability)),
                Text(finding.verdict),
            )
        table.add_section()
    table.caption = Text(
        "95% intervals over seeds and test images. P: probability that the claim holds for "
        f"networks trained like these: {'; '.join(sorted(studies))}."
    )
    return table
