"""Verdicts for the terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from .registry import Judged, errors_to_expect


def claims_table(judged: Sequence[Judged], remarks: Sequence[str] = ()) -> Table:
    """Each claim with what all say together, and below it every finding; then remarks."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for column in ("claim", "estimate, 95% interval", "verdict"):
        table.add_column(column, overflow="fold", no_wrap=column == "verdict")
    studies = {finding.study for one in judged for finding in one.findings} - {""}
    for one in judged:
        table.add_row(Text(one.claim.text, "bold"), "", Text(one.verdict, "bold"))
        for finding in one.findings:
            words = [finding.study, finding.subject] if len(studies) > 1 else [finding.subject]
            table.add_row(
                Text("  " + ", ".join(filter(None, words))),
                Text("\n".join(filter(None, [finding.estimate, finding.note]))),
                Text(finding.verdict),
            )
        table.add_section()
    about = (
        "95% intervals over seeds and test images, for networks trained like these: "
        f"{'; '.join(sorted(studies))}."
    )
    table.caption = Text(" ".join([about, errors_to_expect(judged), *remarks]))
    return table
