"""Tables fit the terminal and hold the numbers, brackets included."""

import io
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from rctaf_jax.activations import parse_activation
from rctaf_jax.experiments.results.rows import load_results
from rctaf_jax.experiments.results.summary import summarise
from rctaf_jax.experiments.show import wording
from rctaf_jax.experiments.show.tables import curvature_table, summary_table

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
        assert wording.accuracy_short(summary.robust) in text
        assert wording.norm_width(summary.hessian) in text
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


def test_curvatures_beside_the_papers() -> None:
    names = ("relu", "mish", "gelu", "elu", "rct-af:beta=1,curvature=7")
    text = printed(curvature_table([parse_activation(name) for name in names]))
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert "∞" in lines["relu"]
    assert "0.6442" in lines["mish"]
    assert lines["mish"].rstrip().endswith("0.362")
    assert "0.798" not in lines["gelu"]  # the paper's, to its three decimals
    assert "supremum" in lines["elu"]
    assert "rct-af:beta=1,alpha=14" in lines
    assert "…" not in text
