"""Tables fit the terminal and hold the numbers, brackets included."""

import io

from rich.console import Console
from rich.table import Table

from rctaf_jax.activations import parse_activation
from rctaf_jax.experiments.show.tables import TextTable, curvature_table, text_table


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


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


def test_words_are_no_markup() -> None:
    text = printed(text_table(TextTable(("", "b"), [("[bold]x", "[1, 2]")]), "[red]title"))
    assert "[bold]x" in text
    assert "[1, 2]" in text
    assert "[red]title" in text
