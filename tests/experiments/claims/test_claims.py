"""Every claim on synthetic networks whose truth is known, a flat one included."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from rctaf_jax.experiments.claims.baselines import beats_baselines
from rctaf_jax.experiments.claims.evidence import Group, Measured
from rctaf_jax.experiments.claims.generality import same_elsewhere
from rctaf_jax.experiments.claims.organiser import curvature_organises
from rctaf_jax.experiments.claims.peak import peak_in_range
from rctaf_jax.experiments.claims.sampling import draw_logarithms, find_noise
from rctaf_jax.experiments.claims.slopes import (
    POINTS,
    beta_2_falls_fastest,
    one_sided,
)
from rctaf_jax.experiments.claims.verdict import REFUTED, SUPPORTED, UNDECIDED

GRID = (0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 20.0, 50.0)
FACTOR = {0: 4.0, 1: 2.0, 2: 1.0}
Truth = Callable[[int, float, float], float]
"""(beta, alpha, curvature) to the true mean accuracy."""


def measured(
    truth: Truth,
    rng: np.random.Generator,
    *,
    noise: float = 0.01,
    num_seeds: int = 3,
    baselines: dict[str, float] | None = None,
    study: str = "synthetic",
) -> Measured:
    """Networks of three betas, as a sweep would measure them."""
    places = [(beta, FACTOR[beta] * c, c) for beta in FACTOR for c in GRID]
    groups = [Group(f"rct-af:beta={b}", b, a, c, ()) for b, a, c in places]
    means = [truth(*place) for place in places]
    for name, value in (baselines or {}).items():
        groups.append(Group(name, None, None, math.inf, ()))
        means.append(value)
    seeds = 0.02 * rng.normal(size=num_seeds)
    values = np.array(means)[:, None] + seeds + noise * rng.normal(size=(len(means), num_seeds))
    families = [(list(range(8 * i, 8 * i + 8)), list(GRID)) for i in range(3)]
    found = find_noise([dict(enumerate(row)) for row in values], families)
    assert found is not None
    sample = draw_logarithms(rng, values.tolist(), found, num_draws=1000)
    return Measured(study, tuple(groups), sample)


def bump(place: float, width: float = 1.0) -> Truth:
    return lambda beta, alpha, c: 0.5 - 0.04 * (math.log(c / place) / width) ** 2


def flat(beta: int, alpha: float, c: float) -> float:
    return 0.5


def verdicts(findings) -> set[str]:
    return {finding.verdict for finding in findings}


def test_a_peak_inside_is_supported_and_one_outside_is_not():
    rng = np.random.default_rng(0)
    assert verdicts(peak_in_range("c", measured(bump(6.3), rng), +1)) == {SUPPORTED}
    assert verdicts(peak_in_range("c", measured(bump(1.0), rng), +1)) == {REFUTED}
    assert verdicts(peak_in_range("c", measured(bump(40.0), rng), +1)) == {REFUTED}


def test_a_valley_is_a_peak_of_the_other_sign():
    rng = np.random.default_rng(0)
    valley: Truth = lambda b, a, c: -bump(6.3)(b, a, c)  # noqa: E731
    assert verdicts(peak_in_range("c", measured(valley, rng), -1)) == {SUPPORTED}


def test_a_peak_near_the_bound_is_left_open():
    rng = np.random.default_rng(0)
    found = [f for _ in range(5) for f in peak_in_range("c", measured(bump(4.0), rng), +1)]
    assert UNDECIDED in verdicts(found)


def test_the_interval_of_the_peak_covers_the_truth():
    rng = np.random.default_rng(3)
    found = [f for _ in range(40) for f in peak_in_range("c", measured(bump(6.0), rng), +1)]
    covered = np.mean([f.low <= 6.0 <= f.high for f in found])
    # 120 intervals; the smooth curve's own bias costs a little.
    assert covered > 0.88


def test_flat_curves_are_not_enough_data():
    """False verdicts stay about as rare as a 5% test allows: 150 curves, all of them flat."""
    rng = np.random.default_rng(1)
    found = [f for _ in range(50) for f in peak_in_range("c", measured(flat, rng), +1)]
    assert np.mean([f.verdict == SUPPORTED for f in found]) < 0.03
    assert np.mean([f.verdict != UNDECIDED for f in found]) < 0.10


def test_flat_slopes_are_rarely_told_from_zero():
    rng = np.random.default_rng(4)
    found = [f for _ in range(50) for f in one_sided("c", measured(flat, rng), "below", +1, POINTS)]
    assert np.mean([f.verdict != UNDECIDED for f in found]) < 0.10


def test_slopes_have_the_right_size_and_sign():
    rng = np.random.default_rng(0)
    tent: Truth = lambda b, a, c: 0.5 - 0.03 * abs(math.log2(c / 6.3))  # noqa: E731
    of = measured(tent, rng, noise=0.002)
    for finding in one_sided("c", of, "below", +1, POINTS):
        assert finding.verdict == SUPPORTED
        assert finding.value == pytest.approx(3.0, abs=0.5)
        assert finding.low < finding.value < finding.high
    assert verdicts(one_sided("c", of, "above", -1, POINTS)) == {SUPPORTED}
    assert verdicts(one_sided("c", of, "below", -1, POINTS)) == {REFUTED}


def test_the_steepest_decline():
    rng = np.random.default_rng(0)
    steep: Truth = lambda b, a, c: 0.5 - (0.06 if b == 2 else 0.01) * math.log2(c)  # noqa: E731
    alike: Truth = lambda b, a, c: 0.5 - 0.03 * math.log2(c)  # noqa: E731
    gentle: Truth = lambda b, a, c: 0.5 - (0.01 if b == 2 else 0.06) * math.log2(c)  # noqa: E731
    (found,) = beta_2_falls_fastest("c", measured(steep, rng))
    assert found.verdict == SUPPORTED
    assert found.value == pytest.approx(-5.0, abs=1.5)
    assert beta_2_falls_fastest("c", measured(alike, rng))[0].verdict == UNDECIDED
    assert beta_2_falls_fastest("c", measured(gentle, rng))[0].verdict == REFUTED


def test_what_organises_the_betas():
    rng = np.random.default_rng(0)
    by_curvature = bump(6.3)
    by_alpha: Truth = lambda b, a, c: 0.5 - 0.04 * math.log(a / 6.3) ** 2  # noqa: E731
    (found,) = curvature_organises("c", measured(by_curvature, rng))
    assert found.verdict == SUPPORTED
    assert found.value > 0
    (found,) = curvature_organises("c", measured(by_alpha, rng))
    assert found.verdict == REFUTED
    open_ones = [curvature_organises("c", measured(flat, rng))[0] for _ in range(30)]
    assert np.mean([f.verdict != UNDECIDED for f in open_ones]) <= 0.1


def test_baselines_are_beaten_one_by_one():
    rng = np.random.default_rng(0)
    of = measured(flat, rng, baselines={"relu": 0.44, "gelu": 0.5, "elu": 0.56})
    found = {finding.subject: finding for finding in beats_baselines("c", of)}
    assert len(found) == 9
    for beta in (0, 1, 2):
        assert found[f"RCT-AF β = {beta} less ReLU"].verdict == SUPPORTED
        assert found[f"RCT-AF β = {beta} less GELU"].verdict == UNDECIDED
        assert found[f"RCT-AF β = {beta} less elu"[:-3] + "ELU"].verdict == REFUTED
    assert found["RCT-AF β = 1 less ReLU"].value == pytest.approx(6.0, abs=2.0)


def test_equal_baselines_are_rarely_beaten():
    """Holm's correction: any false verdict at all in at most about 5% of sweeps, twice for two."""
    rng = np.random.default_rng(7)
    names = ("relu", "leaky_relu", "elu", "gelu", "swish", "mish")
    runs = [
        verdicts(beats_baselines("c", measured(flat, rng, baselines=dict.fromkeys(names, 0.5))))
        for _ in range(60)
    ]
    assert np.mean([run != {UNDECIDED} for run in runs]) < 0.2


def test_the_same_elsewhere_needs_each_study():
    rng = np.random.default_rng(0)
    here, there = (measured(bump(6.3), rng, study=name) for name in ("a", "b"))
    other = measured(bump(1.0), rng, study="c")
    assert verdicts(same_elsewhere("c", [here, there])) == {SUPPORTED}
    found = same_elsewhere("c", [here, other])
    assert verdicts(found) == {REFUTED}
    assert "c" in found[0].note
    assert verdicts(same_elsewhere("c", [here])) == {UNDECIDED}
    assert verdicts(same_elsewhere("c", [here, here])) == {UNDECIDED}
    assert verdicts(same_elsewhere("c", [here, measured(flat, rng)])) == {UNDECIDED}


def test_too_few_curvatures_give_reasons():
    rng = np.random.default_rng(0)
    of = measured(bump(6.3), rng)
    few = [place for place, group in enumerate(of.groups) if group.curvature in (7.0, 50.0)]
    sample = of.sample._replace(
        means=of.sample.means[few],
        draws=of.sample.draws[:, few],
        counts=of.sample.counts[few],
    )
    small = Measured("small", tuple(of.groups[place] for place in few), sample)
    for findings in (
        peak_in_range("c", small, +1),
        one_sided("c", small, "below", +1, POINTS),
        beta_2_falls_fastest("c", small),
        curvature_organises("c", small),
        beats_baselines("c", small),
        same_elsewhere("c", [small, small]),
    ):
        assert verdicts(findings) == {UNDECIDED}
        assert all(finding.note for finding in findings)
