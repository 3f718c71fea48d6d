"""Contrasts: paired t where images do nothing, intervals that cover, and images' noise unbiased."""

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_rel

from rctaf_jax.experiments.claims.contrast import Estimate, estimate_contrast, image_noise


def table_of(values: np.ndarray) -> list[dict[int, float]]:
    return [dict(enumerate(map(float, row))) for row in values]


@pytest.mark.parametrize("num_seeds", [2, 3, 10])
def test_two_activations_are_a_paired_t_test(num_seeds):
    values = np.random.default_rng(num_seeds).normal(size=(3, num_seeds))
    values[1] += 0.5
    found = estimate_contrast(table_of(values), {1: 1.0, 2: -1.0}, None)
    oracle = ttest_rel(values[1], values[2], alternative="greater")
    assert found is not None
    assert found.value == pytest.approx(oracle.statistic * np.sqrt(found.seeds))
    assert found.p_above() == pytest.approx(oracle.pvalue, abs=1e-6)
    assert found.p_below() == pytest.approx(1 - oracle.pvalue, abs=1e-6)
    both = ttest_rel(values[1], values[2]).confidence_interval(0.95)
    np.testing.assert_allclose(found.interval, both, rtol=1e-6)


def test_what_a_seed_does_to_all_is_no_noise():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(3, 6))
    weights = {0: 1.0, 1: -0.5, 2: -0.5}
    plain = estimate_contrast(table_of(noise), weights, None)
    shifted = estimate_contrast(table_of(noise + 100 * rng.normal(size=6)), weights, None)
    np.testing.assert_allclose(shifted, plain, rtol=1e-9)


def test_p_values_belong_to_the_interval():
    found = Estimate(0.3, 0.004, 0.01, 4)
    low, high = found.interval
    assert found.p_above(low) == pytest.approx(0.025, abs=1e-6)
    assert found.p_below(high) == pytest.approx(0.025, abs=1e-6)
    assert found.is_below(high + 1e-9, 0.025)
    assert not found.is_below(high - 1e-9, 0.025)
    assert found.p_above(0.3) == pytest.approx(0.5)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_intervals_cover_at_least_as_often_as_they_say(num_seeds, ratio):
    """Banerjee's theorem: seeds and images of any two variances, 4,000 times each."""
    rng = np.random.default_rng(7)
    seeds = rng.normal(size=(4000, num_seeds))
    values = seeds.mean(axis=1) + np.sqrt(ratio) * rng.normal(size=4000)
    variances = seeds.var(axis=1, ddof=1) / num_seeds
    t, z = student.ppf(0.975, num_seeds - 1), 1.959964
    covered = np.mean(values**2 <= t**2 * variances + z**2 * ratio)
    assert covered > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 4000)
    one = Estimate(values[0], variances[0], ratio, num_seeds - 1)
    assert (one.interval[0] <= 0 <= one.interval[1]) == bool(
        values[0] ** 2 <= t**2 * variances[0] + z**2 * ratio
    )


def test_one_seed_or_none_in_common_says_nothing():
    assert estimate_contrast([{0: 1.0}, {0: 2.0}], {0: 1.0, 1: -1.0}, None) is None
    assert estimate_contrast([{0: 1.0, 1: 2.0}, {2: 2.0, 3: 1.0}], {0: 1.0, 1: -1.0}, None) is None
    lost = [{0: 1.0, 1: 1.5, 2: 9.0}, {0: 2.0, 1: 2.0}]
    found = estimate_contrast(lost, {0: 1.0, 1: -1.0}, None)
    assert found is not None
    assert found.value == pytest.approx(-0.75)
    assert found.freedom == 1


def test_seeds_that_happen_to_agree_decide_nothing():
    found = estimate_contrast([{0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.0}], {0: 1.0, 1: -1.0}, None)
    assert found is not None
    assert found.p_above() == found.p_below() == 1.0
    rng = np.random.default_rng(0)
    right = rng.random((2, 2, 300)) < 0.5
    outcomes = [dict(enumerate(rows.astype(np.float32))) for rows in right]
    agreeing = [{0: 0.5, 1: 0.5}, {0: 0.6, 1: 0.6}]
    found = estimate_contrast(agreeing, {0: 1.0, 1: -1.0}, image_noise(outcomes))
    assert found is not None
    assert found.seeds == pytest.approx(2 * 0.25 / 300 / 2, rel=0.15)  # what single images do


def test_noise_of_images_is_that_of_a_crossed_design():
    """Against the mean squares of one contrast, worked out image by image."""
    rng = np.random.default_rng(1)
    outcomes = [{s: rng.random(50).astype(np.float32) for s in range(4)} for _ in range(3)]
    found, weights = image_noise(outcomes), np.array([1.0, -0.25, -0.75])
    z = np.tensordot(weights, np.array([[o[s] for s in range(4)] for o in outcomes]), axes=1)
    rest = z - z.mean(axis=0) - z.mean(axis=1, keepdims=True) + z.mean()
    interaction = np.sum(rest**2) / (3 * 49)
    images = 4 * z.mean(axis=0).var(ddof=1)
    assert weights @ found.single @ weights == pytest.approx(interaction / 50, rel=1e-4)
    expected = (images - interaction) / (4 * 50)
    assert weights @ found.shared @ weights == pytest.approx(expected, rel=1e-3, abs=1e-7)


def test_noise_of_images_is_unbiased_with_lost_seeds():
    rng = np.random.default_rng(2)
    hard, size = rng.normal(size=(3, 40_000)), 40_000
    hard[1] = 0.8 * hard[0] + 0.6 * hard[1]
    outcomes = [
        {s: (row + 0.5 * rng.normal(size=size)).astype(np.float32) for s in seeds}
        for row, seeds in zip(hard, ((0, 1, 2, 3), (0, 2), (3,)), strict=True)
    ]
    found = image_noise(outcomes)
    assert size * found.shared[0, 1] == pytest.approx(0.8, abs=0.03)
    np.testing.assert_allclose(size * np.diag(found.shared)[:2], 1.0, atol=0.04)
    np.testing.assert_allclose(size * np.diag(found.single)[:2], 0.25, atol=0.01)
    assert size * found.shared[2, 2] == pytest.approx(1.25, abs=0.04)  # all of it, of one seed
    assert abs(size * found.single[0, 1]) < 0.01
