"""What figures and tables of the paper show of committed results."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from rctaf_jax.experiments import load
from rctaf_jax.experiments.paper.exhibits.table_1 import PAPER_ACCURACIES
from rctaf_jax.experiments.paper.registry import EXPERIMENTS
from rctaf_jax.experiments.paper.reproduction import make_exhibit
from rctaf_jax.experiments.paper.scales import SCALES, scale_named

RESULTS = Path(__file__).parents[3] / "results"


def dots(axes: Axes, color: str | None = None) -> dict[float, float]:
    """Heights of single dots, and where they are."""
    marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
    kept = [m for m in marks if (m.get_marker() == "D") == (color == "paper")]
    return {float(np.asarray(m.get_ydata())[0]): float(np.asarray(m.get_xdata())[0]) for m in kept}


def test_table_1_draws_differences_from_relu():
    folder = RESULTS / "reproduce-digits"
    exhibit = make_exhibit(folder, EXPERIMENTS["table-1"], SCALES["digits"], {})
    frame = load(folder)
    frame = frame[frame.study == "dajat"].assign(robust=lambda f: f.robust_correct / f.num_test)
    robust = frame.groupby("family").robust.mean()  # two seeds each: means of pairs
    clean, axes = exhibit.figure.axes
    assert [one.get_title(loc="left") for one in (clean, axes)] == [
        "Clean accuracy",
        "Robust accuracy",
    ]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert "ReLU" not in names
    assert len(names) == len(PAPER_ACCURACIES) - 1
    place = names.index("GELU")
    assert dots(axes)[place] == pytest.approx(100 * (robust["gelu"] - robust["relu"]))
    assert dots(axes, "paper")[place] == pytest.approx(51.69 - 51.37)
    assert dots(clean, "paper")[names.index("ELU")] == pytest.approx(78.39 - 85.23)
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == ["here (digits)", "paper (CIFAR-10)"]
    assert exhibit.remarks[0].startswith(
        "Here: digits, resnet-mini, DAJAT, PGD-20. The paper: CIFAR-10"
    )


def test_figure_4_names_its_networks_and_says_if_they_are_one():
    """What was trained, whatever the scale would train today."""
    exhibit = make_exhibit(
        RESULTS / "reproduce-digits", EXPERIMENTS["figure-4"], SCALES["digits"], {}
    )
    assert exhibit.remarks[0] == (
        "Here: resnet-mini and resnet-mini (width 2), one architecture at two widths."
    )
    labels = {row[0] for row in exhibit.table.rows}
    assert labels == {"resnet-mini", "resnet-mini (width 2)"}
    drawn = {text.get_text() for text in exhibit.figure.axes[0].texts}
    assert labels <= drawn


@pytest.mark.parametrize("name", SCALES)
def test_figure_4_has_two_architectures_at_every_scale(name):
    studies = scale_named(name, None).studies
    assert studies["trades"].train.model != studies["trades-wide"].train.model
    assert studies["trades"].train.method == studies["trades-wide"].train.method
