"""The table of a sweep fits the terminal and holds the numbers, brackets included."""

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from rctaf_jax.experiments.results import phrasing
from rctaf_jax.experiments.results.rows import load_results
from rctaf_jax.experiments.results.summary import summarise
from rctaf_jax.experiments.results.tables import summary_table

Factory = Callable[..., Any]


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_summary_fits_and_is_whole(
    make_folder: Factory, sweep_rows: list[dict[str, Any]]
) -> None:
    results = load_results(make_folder(sweep_rows))
    text = printed(summary_table(results))
    assert "…" not in text
    for summary in summarise(results.rows):
        assert phrasing.accuracy_short(summary.robust) in text
        assert phrasing.norm_width(summary.hessian) in text
    assert "38 of 38 members. [low, high]" in text
    assert "UCI digits" in text


def test_diverged_and_unresolved(
    make_folder: Factory, make_member: Factory, make_diverged: Factory
) -> None:
    rows = [make_member(1, 7, 0, rms=None), make_diverged(1, 50, 0, "NaN")]
    text = printed(summary_table(load_results(make_folder(rows))))
    assert "2 of 38 members" in text
    assert "unresolved" in text
    assert "0/1" in text
