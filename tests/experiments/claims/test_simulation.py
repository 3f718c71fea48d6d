"""A small part of `benchmarks/claims_simulation.py`: verdicts on whole sweeps of known truths."""

import importlib
import math
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
STEEP = ("peak at 3, 4 up, 0.3 down", "peak at 12.5, 0.3 up, 4 down")


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("claims_simulation")


def rates(counts, names) -> tuple[float, float, int]:
    """Wrong on either side, and of how many."""
    own = [count for name, count in counts.items() if name in names]
    num = sum(count.num for count in own)
    sides = (sum(c.wrongly_supported for c in own), sum(c.wrongly_refuted for c in own))
    return sides[0] / num, sides[1] / num, num


@pytest.mark.parametrize("truth", STEEP)
def test_a_lopsided_peak_outside_is_not_called_inside(simulation, truth):
    """A smooth curve's highest place was inside for a fifth of them."""
    cell = simulation.Cell(truth, "eleven", 20, 1000, "equal")
    counts = simulation.judge_cell(cell, 4, (1,))
    supported, _, num = rates(counts, (simulation.PEAK, simulation.PEAK + simulation.JOINT))
    assert num == 16
    assert supported == 0


@pytest.mark.parametrize("noise", ["unequal", "diverging"])
def test_level_truths_are_left_open(simulation, noise):
    cell = simulation.Cell("flat", "sweep", 3, 360, noise)
    counts = simulation.judge_cell(cell, 15, (2,))
    for name in (simulation.PEAK, simulation.RISES, simulation.FALLS):
        supported, refuted, num = rates(counts, (name, name + simulation.JOINT))
        # Betas share test images, so 60 findings are worth about 15.
        limit = 0.025 + 3 * math.sqrt(0.025 * 0.975 / (num / 4))
        assert max(supported, refuted) < limit


def test_what_is_true_by_far_is_said(simulation):
    cell = simulation.Cell("steep tent", "eleven", 10, 1000, "equal")
    counts = simulation.judge_cell(cell, 4, (3,))
    assert counts[simulation.PEAK + simulation.JOINT].right == 4
    assert counts[simulation.PEAK].right >= 9
    assert counts[simulation.FALLS].right == 12


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["equal", "unequal", "diverging"])
@pytest.mark.parametrize("num_seeds", [2, 3, 5, 20])
def test_every_verdict_is_wrong_at_most_as_often_as_stated(simulation, noise, num_seeds):
    totals: dict[str, list] = {}
    for place, truth in enumerate(simulation.TRUTHS):
        cell = simulation.Cell(truth, "sweep", num_seeds, 1000, noise)
        for name, count in simulation.judge_cell(cell, 20, (4, place)).items():
            totals.setdefault(name, []).append(count)
    for counts in totals.values():
        for side in (1, 2):
            wrong = sum(count[side] for count in counts) / sum(count.num for count in counts)
            assert wrong < 0.025
