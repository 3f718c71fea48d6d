"""The table that a sweep ends with."""

from rich.table import Table
from rich.text import Text

from rctaf_jax.experiments.show.tables import empty_table
from rctaf_jax.experiments.show.wording import ALPHA, CURVATURE, SIGMA, family_label, number

from .phrasing import accuracy_short, norm_width
from .rows import Results
from .summary import summarise


def summary_table(results: Results) -> Table:
    """One line for each activation: means over seeds with 95% intervals; 80 columns wide."""
    table = empty_table(SIGMA, ALPHA, CURVATURE, "clean %", "robust %", "Hessian norm", "seeds")
    for summary in summarise(results.rows):
        num_tried = summary.num_seeds + summary.num_diverged
        table.add_row(
            Text(family_label(summary.family).removeprefix("RCT-AF ")),
            number(summary.alpha),
            number(summary.max_curvature),
            accuracy_short(summary.clean),
            accuracy_short(summary.robust),
            "unresolved" if summary.num_unresolved else norm_width(summary.hessian),
            f"{summary.num_seeds}/{num_tried}",
        )
    table.caption = Text(  # as it is: rich would take brackets for markup
        f"{len(results.rows)} of {results.num_expected} members. [low, high] and ± are 95% "
        "intervals over three seeds or more, without what a seed does to all. Seeds: those that "
        f"did not diverge / all. Data: {results.data['source']}"
    )
    return table
