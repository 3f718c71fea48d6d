"""A report reads each file of a folder once, and draws each panel once."""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from rctaf_jax.experiments.command.studies import show_report
from rctaf_jax.experiments.paper.reproduction import write_page

RESULTS = Path(__file__).parents[3] / "results" / "reproduce-digits"
_watched: list[Counter[Path]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | Path):
        is_read = arguments[1] is not None and arguments[1].startswith("r")
        _watched[0][Path(arguments[0])] += is_read


sys.addaudithook(_note)  # for good; it sees whatever way a file is opened


@pytest.fixture
def reads() -> Iterator[Counter[Path]]:
    _watched.append(Counter())
    yield _watched[0]
    _watched.clear()


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figure of each panel that is drawn."""
    drawn: list[Figure] = []
    add_subplot = Figure.add_subplot

    def noting(figure: Figure, *arguments: Any, **options: Any) -> Any:
        drawn.append(figure)
        return add_subplot(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "add_subplot", noting)
    return drawn


def below(folder: Path, counts: Counter[Path]) -> dict[str, int]:
    """Reads of the folder's own files."""
    return {str(p.relative_to(folder)): n for p, n in counts.items() if n and folder in p.parents}


def test_the_report_of_a_sweep(
    make_folder: Callable[..., Path],
    sweep_rows: list[dict[str, Any]],
    reads: Counter[Path],
    draws: list[Figure],
) -> None:
    folder = make_folder(sweep_rows)
    reads.clear()
    show_report(folder, Console(quiet=True))
    found = below(folder, reads)
    assert set(found.values()) == {1}
    assert sum(path.endswith("row.json") for path in found) == 38
    assert sum(path.endswith("outcomes.npz") for path in found) == 38
    assert len(draws) == 4
    assert len(set(map(id, draws))) == 2
    assert (folder / "report.html").read_text().count("<svg") == 4


def test_the_page_of_a_reproduction(
    tmp_path: Path, reads: Counter[Path], draws: list[Figure]
) -> None:
    folder = tmp_path / "results"
    shutil.copytree(RESULTS, folder)
    rows = len(list(folder.glob("studies/*/members/*/row.json")))
    reads.clear()
    page = write_page(folder).path.read_text()
    found = below(folder, reads)
    assert found.pop("report.html") == 1  # here
    assert set(found.values()) == {1}
    assert sum(path.endswith("row.json") for path in found) == rows == 120
    assert sum(path.endswith("outcomes.npz") for path in found) == rows
    assert len(draws) == page.count("<svg")
