"""Every claim on synthetic networks whose truth is known, a flat one included."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from rctaf_jax.experiments.claims.baselines import beats_baselines
from rctaf_jax.experiments.claims.contrast import image_noise
from rctaf_jax.experiments.claims.curvature_or_alpha import curvature_organises, estimate_quadratic
from rctaf_jax.experiments.claims.divergence import less_sure
from rctaf_jax.experiments.claims.evidence import ActivationGroup, Evidence, Lack, Measured
from rctaf_jax.experiments.claims.generality import same_elsewhere
from rctaf_jax.experiments.claims.peak import NOTHING_STANDS_OUT, ROBUST_MARGIN, peak_in_range
from rctaf_jax.experiments.claims.registry import (
    CLAIMS,
    errors_to_expect,
    group_findings,
    judge_claim,
)
from rctaf_jax.experiments.claims.slopes import (
    PERCENT,
    POINTS,
    beta_2_falls_fastest,
    one_sided,
)
from rctaf_jax.experiments.claims.verdict import (
    REFUTED,
    SUPPORTED,
    TOGETHER,
    UNDECIDED,
    Finding,
    Unsaid,
    overall,
)
from rctaf_jax.experiments.show.wording import ALPHA

SPARSE = (0.5, 2.0, 4.0, 7.0, 20.0, 50.0)
"""As `rctaf reproduce` has at all scales but the paper's."""
GRID = (0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 20.0, 50.0)
FACTOR = {0: 4.0, 1: 2.0, 2: 1.0}
Truth = Callable[[int, float, float], float]
"""(beta, alpha, curvature) to the true mean accuracy."""


def measured(
    truth: Truth,
    rng: np.random.Generator,
    *,
    noise: float = 0.01,
    num_seeds: int = 5,
    grid: tuple[float, ...] = GRID,
    betas: tuple[int, ...] = (0, 1, 2),
    seed_noise: float = 0.02,
    lost: Callable[[float, int], bool] = lambda curvature, seed: False,
    baselines: dict[str, float] | None = None,
    study: str = "synthetic",
) -> Measured:
    """Networks of some betas, as a sweep would measure them; `lost` ones diverged."""
    places = [(beta, FACTOR[beta] * c, c) for beta in betas for c in grid]
    groups = [ActivationGroup(f"rct-af:beta={b}", b, a, c) for b, a, c in places]
    means = [truth(*place) for place in places]
    for name, value in (baselines or {}).items():
        groups.append(ActivationGroup(name, None, None, math.inf))
        means.append(value)
    seeds = seed_noise * rng.normal(size=num_seeds)
    table = np.array(means)[:, None] + seeds + noise * rng.normal(size=(len(means), num_seeds))
    values = [
        {seed: float(v) for seed, v in enumerate(row) if not lost(group.curvature, seed)}
        for group, row in zip(groups, table, strict=True)
    ]
    return Measured(study, tuple(groups), values)


def bump(place: float, width: float = 1.0) -> Truth:
    return lambda beta, alpha, c: 0.5 - 0.04 * (math.log(c / place) / width) ** 2


def flat(beta: int, alpha: float, c: float) -> float:
    return 0.5


def peaks(of: Measured, sign: int = +1) -> list[Finding]:
    return peak_in_range("c", of, sign, ROBUST_MARGIN)


def verdicts(findings) -> set[str]:
    return {finding.verdict for finding in findings}


def test_a_peak_inside_is_supported_and_one_outside_is_not():
    rng = np.random.default_rng(0)
    assert verdicts(peaks(measured(bump(6.3), rng))) == {SUPPORTED}
    assert verdicts(peaks(measured(bump(1.0), rng))) == {REFUTED}
    assert verdicts(peaks(measured(bump(40.0), rng))) == {REFUTED}


def test_a_valley_is_a_peak_of_the_other_sign():
    rng = np.random.default_rng(0)
    valley: Truth = lambda b, a, c: -bump(6.3)(b, a, c)  # noqa: E731
    assert verdicts(peaks(measured(valley, rng), -1)) == {SUPPORTED}


def test_a_peak_near_the_bound_is_left_open():
    rng = np.random.default_rng(0)
    found = [f for _ in range(5) for f in peaks(measured(bump(4.0), rng))]
    assert UNDECIDED in verdicts(found)


def test_the_location_holds_the_truth_and_is_no_narrower_than_tried_neighbours():
    rng = np.random.default_rng(3)
    found = [f for _ in range(40) for f in peaks(measured(bump(6.0), rng))]
    assert np.mean([f.low <= 6.0 <= f.high for f in found]) > 0.95
    sharp = peaks(measured(bump(7.0), rng, noise=1e-4))
    assert {(f.low, f.value, f.high) for f in sharp} == {(4.0, 7.0, 10.0)}
    lowest = peaks(measured(bump(0.5), rng, noise=1e-4))
    assert {(f.low, f.value, f.high) for f in lowest} == {(0.5, 0.5, 1.0)}
    assert all("smallest curvature tried" in f.note for f in lowest)


def test_a_peak_that_hardly_matters_is_not_called():
    """The best tried is inside, or outside, by half a point, known almost exactly."""
    rng = np.random.default_rng(0)
    for place in (2.0, 7.0):
        half: Truth = lambda b, a, c, at=place: 0.5 + 0.005 * (c == at)  # noqa: E731
        one: Truth = lambda b, a, c, at=place: 0.5 + 0.015 * (c == at)  # noqa: E731
        expected = SUPPORTED if place == 7.0 else REFUTED
        assert verdicts(peaks(measured(half, rng, noise=0.0005))) == {UNDECIDED}
        assert verdicts(peaks(measured(one, rng, noise=0.0005))) == {expected}


def test_all_betas_together_come_first_and_see_more():
    rng = np.random.default_rng(4)
    shallow: Truth = lambda b, a, c: 0.5 - 0.025 * abs(math.log2(c / 6.3))  # noqa: E731
    runs = [peaks(measured(shallow, rng, noise=0.018, num_seeds=6)) for _ in range(30)]
    assert {run[0].subject for run in runs} == {TOGETHER}
    assert {len(run) for run in runs} == {4}
    joint = np.mean([run[0].verdict == SUPPORTED for run in runs])
    alone = np.mean([f.verdict == SUPPORTED for run in runs for f in run[1:]])
    assert joint > alone + 0.2


def test_betas_are_together_where_all_were_tried():
    of = measured(bump(6.3), np.random.default_rng(0))
    fewer = [p for p, g in enumerate(of.groups) if g.beta != 2 or g.curvature in (2.0, 7.0, 20.0)]
    of = of._replace(
        groups=tuple(of.groups[p] for p in fewer), values=[of.values[p] for p in fewer]
    )
    assert of.all_curves()[0].curvatures.tolist() == [2.0, 7.0, 20.0]
    (alone,) = measured(bump(6.3), np.random.default_rng(0), betas=(1,)).all_curves()
    assert alone.families == ("rct-af:beta=1",)


def test_flat_curves_are_not_enough_data():
    rng = np.random.default_rng(1)
    found = [f for _ in range(50) for f in peaks(measured(flat, rng))]
    assert np.mean([f.verdict != UNDECIDED for f in found]) < 0.03
    assert np.mean([f.note == NOTHING_STANDS_OUT for f in found]) > 0.5


LEVEL_TRUTHS: dict[str, Truth] = {
    "rises to 2": lambda b, a, c: 0.5 + 0.03 * min(math.log(c / 2), 0),
    "falls from 20": lambda b, a, c: 0.5 - 0.03 * max(math.log(c / 20), 0),
    "low at 0.5": lambda b, a, c: 0.45 if c == 0.5 else 0.5,
    "low at 50": lambda b, a, c: 0.45 if c == 50 else 0.5,
}


@pytest.mark.parametrize("grid", [SPARSE, GRID, tuple(map(float, range(1, 51)))])
@pytest.mark.parametrize("noise", [0.001, 0.01])
@pytest.mark.parametrize("truth", LEVEL_TRUTHS.values(), ids=LEVEL_TRUTHS)
def test_a_level_part_has_no_peak_to_place(truth, noise, grid):
    rng = np.random.default_rng(11)
    runs = [measured(truth, rng, noise=noise, num_seeds=3, grid=grid) for _ in range(10)]
    assert verdicts(f for of in runs for f in peaks(of)) == {UNDECIDED}


def test_curvatures_that_were_not_tried_are_not_judged():
    """A truth that rises for ever: nothing is known of where it was not tried."""
    rising: Truth = lambda b, a, c: 0.5 + 0.03 * math.log(c)  # noqa: E731
    grids = {
        (0.25, 0.5, 1.0, 2.0, 3.0): "no curvature from 4 to 10 was tried",
        (4.0, 5.0, 6.0, 8.0, 10.0): "no curvature below 4 was tried",
        (0.5, 1.0, 2.0, 4.0, 7.0): "no curvature above 10 was tried",
    }
    for grid, words in grids.items():
        of = measured(rising, np.random.default_rng(0), noise=0.002, grid=grid)
        for finding in peaks(of):
            assert finding.verdict == UNDECIDED
            assert words in finding.note
    # Low curvatures are known to be better, though, whatever lies beyond.
    falling: Truth = lambda b, a, c: -rising(b, a, c)  # noqa: E731
    of = measured(falling, np.random.default_rng(0), noise=0.002, grid=(0.5, 1.0, 2.0, 4.0, 7.0))
    assert verdicts(peaks(of)) == {REFUTED}


@pytest.mark.parametrize("grid", [SPARSE, tuple(map(float, range(1, 51)))])
def test_peaks_are_placed_on_coarse_and_fine_grids(grid):
    rng = np.random.default_rng(5)
    inside = measured(bump(6.3, 0.5), rng, noise=0.002, num_seeds=6, grid=grid)
    assert verdicts(peaks(inside)) == {SUPPORTED}
    for place in (1.0, 50.0):
        outside = measured(bump(place), rng, noise=0.002, num_seeds=6, grid=grid)
        assert verdicts(peaks(outside)) == {REFUTED}


def test_a_lost_seed_is_no_difference():
    """Seed 0 diverged at 50; all activations are alike, seeds are not: 160 slopes above 10."""
    rng = np.random.default_rng(6)
    options = {"seed_noise": 0.04, "num_seeds": 3, "lost": lambda c, s: c == 50 and s == 0}
    runs = [measured(flat, rng, **options) for _ in range(40)]
    found = [f for of in runs for f in one_sided("c", of, "above", -1, POINTS)]
    assert np.mean([f.verdict != UNDECIDED for f in found]) < 0.10


def test_noise_may_differ_from_activation_to_activation():
    """Ten times larger at 50, three seeds: flat slopes stay undecided as often as they should."""
    rng = np.random.default_rng(12)
    noisy = [measured(flat, rng, num_seeds=3) for _ in range(100)]
    louder = [
        of._replace(
            values=[
                {s: v + 0.1 * rng.normal() * (g.curvature == 50) for s, v in own.items()}
                for g, own in zip(of.groups, of.values, strict=True)
            ]
        )
        for of in noisy
    ]
    found = [f for of in louder for f in one_sided("c", of, "above", -1, POINTS)]
    # 400 slopes, a quarter of them of the others: 5% and three of its standard errors.
    assert np.mean([f.verdict != UNDECIDED for f in found]) < 0.05 + 3 * math.sqrt(0.0475 / 300)


def test_one_survivor_is_not_believed():
    rng = np.random.default_rng(0)
    most_lost = measured(bump(6.3), rng, lost=lambda c, seed: c == 50 and seed > 0)
    for finding in peaks(most_lost):
        assert finding.verdict == UNDECIDED
    all_lost = measured(bump(6.3), rng, lost=lambda c, seed: c > 10)
    for finding in peaks(all_lost):
        assert finding.verdict == SUPPORTED
        assert "was tried" not in finding.note
    assert all("with a network" in f.note for f in one_sided("c", all_lost, "above", -1, POINTS))


def test_a_verdict_that_hangs_on_diverged_networks_is_none():
    """50 is best, but for two networks of five that diverged there."""
    rng = np.random.default_rng(0)
    best_at_50: Truth = lambda b, a, c: 0.5 + 0.1 * (c == 50)  # noqa: E731
    surviving = measured(best_at_50, rng, noise=0.002, lost=lambda c, s: c == 50 and s > 2)
    counted = [{s: own.get(s, 0.1) for s in range(5)} for own in surviving.values]
    evidence = Evidence(surviving, surviving._replace(values=counted))
    assert verdicts(peaks(surviving)) == {REFUTED}
    found = judge_claim(CLAIMS[0], [evidence])
    assert verdicts(found) == {UNDECIDED}
    assert all("a diverged one counts as guessing" in f.note for f in found)
    same = judge_claim(CLAIMS[0], [Evidence(surviving, surviving)])
    assert verdicts(same) == {REFUTED}


def test_the_less_sure_of_two():
    sure = Finding("c", "s", "", p_for=0.01, p_against=0.9, verdict=SUPPORTED)
    unsure = sure._replace(p_for=0.5, p_against=0.6, verdict=UNDECIDED)
    assert less_sure(sure, sure) == sure
    found = less_sure(sure, unsure)
    assert (found.verdict, found.p_for, found.p_against) == (UNDECIDED, 0.5, 0.9)


def test_norms_lost_in_their_noise_leave_the_valley_open():
    valley: Truth = lambda b, a, c: -bump(6.3)(b, a, c)  # noqa: E731
    of = measured(valley, np.random.default_rng(0))
    of = of._replace(unresolved=frozenset({"rct-af:beta=1"}))
    for find in (peaks(of, -1), one_sided("c", of, "below", -1, PERCENT)):
        # All betas together have beta 1 in them.
        assert [f.verdict for f in find] == [UNDECIDED, SUPPORTED, UNDECIDED, SUPPORTED]
        assert "take more" in find[0].note
        assert "take more" in find[2].note


def test_one_of_many_curves_errs_easily():
    """Seven flat curves at a time: together they are refuted no more often than one alone."""
    rng = np.random.default_rng(8)
    runs = []
    for _ in range(60):
        studies = [measured(flat, rng, num_seeds=2, grid=SPARSE)]
        studies += [measured(flat, rng, num_seeds=2, grid=SPARSE, betas=(1,)) for _ in range(4)]
        runs.append(overall([f for of in studies for f in one_sided("c", of, "below", +1, POINTS)]))
    assert runs.count(REFUTED) <= 5
    assert runs.count(SUPPORTED) == 0


def test_norms_change_by_per_cent():
    doubling: Truth = lambda b, a, c: -0.3 * math.log2(c)  # noqa: E731
    of = measured(doubling, np.random.default_rng(0), noise=0.001)
    (found, *_) = one_sided("c", of, "below", -1, PERCENT)
    assert found.value == pytest.approx(100 * (math.exp(-0.3) - 1), abs=0.3)
    assert found.low < found.value < found.high


def test_intervals_of_accuracies_cover_as_often_as_they_say():
    """From single outcomes: images differ in difficulty, activations in which they find hard."""
    rng = np.random.default_rng(9)
    num_images, num_seeds, covered = 400, 3, []
    groups = tuple(ActivationGroup(f"f{place}", None, None, math.inf) for place in range(6))
    for _ in range(300):
        hard = rng.normal(size=num_images) + 0.5 * rng.normal(size=(6, num_images))
        chance = 1 / (1 + np.exp(hard + 0.5 * rng.normal(size=(num_seeds, 6, 1))))
        right = (rng.random(chance.shape) < chance).astype(np.float32)
        outcomes = [dict(enumerate(right[:, place])) for place in range(6)]
        values = [{s: float(o.mean()) for s, o in group.items()} for group in outcomes]
        of = Measured("s", groups, values, image_noise(outcomes))
        found = of.contrast({0: 1.0, 1: -0.5, 2: -0.5})
        assert found is not None
        covered.append(found.interval[0] <= 0 <= found.interval[1])
    # All activations are equally good over all images that there could be.
    assert 0.925 < np.mean(covered) < 0.99


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


def test_the_slowest_rise_is_no_decline():
    rng = np.random.default_rng(0)
    rising: Truth = lambda b, a, c: 0.5 + (0.01 if b == 2 else 0.05) * math.log2(c)  # noqa: E731
    assert beta_2_falls_fastest("c", measured(rising, rng))[0].verdict != SUPPORTED


def test_declines_are_compared_where_both_betas_were_tried():
    """One curve for all, which bends: a beta that was tried further falls faster there only."""
    bent: Truth = lambda b, a, c: 0.5 - 0.02 * math.log2(max(c, 10) / 10) ** 2  # noqa: E731
    of = measured(bent, np.random.default_rng(0), noise=0.001, grid=(*GRID[:-1], 30.0, 50.0))
    few = [i for i, group in enumerate(of.groups) if group.beta == 2 or group.curvature <= 30]
    values = [of.values[place] for place in few]
    short = of._replace(groups=tuple(of.groups[place] for place in few), values=values)
    (found,) = beta_2_falls_fastest("c", short)
    assert found.verdict == UNDECIDED
    assert found.value == pytest.approx(0.0, abs=0.5)


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
    assert len(found) == 12
    for subject in (TOGETHER, *(f"RCT-AF β = {beta}" for beta in (0, 1, 2))):
        assert found[f"{subject} less ReLU"].verdict == SUPPORTED
        assert found[f"{subject} less GELU"].verdict == UNDECIDED
        assert found[f"{subject} less ELU"].verdict == REFUTED
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
    assert isinstance(same_elsewhere("c", [here]), Unsaid)
    assert isinstance(same_elsewhere("c", [here, here]), Unsaid)
    flats = [measured(flat, rng, study=name) for name in "defgh"]
    assert verdicts(same_elsewhere("c", [here, *flats])) == {UNDECIDED}
    assert verdicts(same_elsewhere("c", flats)) == {UNDECIDED}


def test_too_few_curvatures_give_reasons():
    rng = np.random.default_rng(0)
    of = measured(bump(6.3), rng)
    few = [place for place, group in enumerate(of.groups) if group.curvature in (7.0, 50.0)]
    groups = tuple(of.groups[place] for place in few)
    small = Measured("small", groups, [of.values[place] for place in few])
    for findings in (
        peaks(small),
        one_sided("c", small, "below", +1, POINTS),
    ):
        assert verdicts(findings) == {UNDECIDED}
        assert all(finding.note for finding in findings)
    for answer in (
        beta_2_falls_fastest("c", small),
        curvature_organises("c", small),
        beats_baselines("c", small),
        same_elsewhere("c", [small, small]),
    ):
        assert isinstance(answer, Unsaid)
        assert answer.reason


def test_a_study_that_a_claim_is_not_about_does_not_leave_it_open():
    rng = np.random.default_rng(0)
    by_name = {claim.name: claim for claim in CLAIMS}
    organises = by_name[f"curvature organises, not {ALPHA}"]
    three, one = (Evidence(measured(bump(6.3), rng, betas=betas)) for betas in ((0, 1, 2), (1,)))
    assert [f.verdict for f in judge_claim(organises, [three, one])] == [SUPPORTED]
    (alone,) = judge_claim(organises, [one])
    assert alone.verdict == UNDECIDED
    assert "it needs two betas" in alone.note
    lack = judge_claim(organises, [three, Lack("other", "no network was measured")])
    assert [f.verdict for f in lack] == [SUPPORTED, UNDECIDED]


def test_a_quadratic_form_is_estimated_without_bias():
    """Noise that differs by activation adds nothing on average: 400 sweeps, flat and not."""
    rng = np.random.default_rng(3)
    matrix = np.array([[1.0, -0.5, -0.5], [-0.5, 0.2, 0.3], [-0.5, 0.3, 0.2]])
    deviations = np.array([1.0, 0.2, 2.0])
    groups = tuple(ActivationGroup(f"f{place}", None, None, 1.0) for place in range(3))
    for means in (np.zeros(3), np.array([1.0, 0.0, -1.0])):
        found = []
        for _ in range(400):
            table = means[:, None] + deviations[:, None] * rng.normal(size=(3, 4))
            of = Measured("s", groups, [dict(enumerate(map(float, row))) for row in table])
            estimate = estimate_quadratic(of, [0, 1, 2], matrix)
            assert estimate is not None
            found.append(estimate.value)
        error = np.std(found) / math.sqrt(len(found))
        assert np.mean(found) == pytest.approx(means @ matrix @ means, abs=4 * error)


def test_how_many_errors_to_expect():
    tested = Finding(CLAIMS[0].name, "s", "", p_for=0.5, p_against=0.5)
    untested = Finding(CLAIMS[0].name, "s", "")
    words = errors_to_expect(group_findings([tested] * 40 + [untested] * 7))
    assert words.startswith("40 findings could be decided.")
    assert "at most 2.0 on average" in words


def test_all_betas_together_stand_for_each_unless_one_is_opposed():
    joint = Finding("c", "s", TOGETHER, p_for=0.001, p_against=0.9, verdict=SUPPORTED)
    open_one = Finding("c", "s", "β = 1", p_for=0.3, p_against=0.7)
    opposed = Finding("c", "s", "β = 2", p_for=0.98, p_against=0.02, verdict=REFUTED)
    assert overall([joint, open_one]) == SUPPORTED
    assert overall([joint, open_one, opposed]) == UNDECIDED
    assert overall([joint, opposed._replace(p_against=0.001)]) == REFUTED
    assert overall([joint, open_one._replace(study="t")]) == UNDECIDED
