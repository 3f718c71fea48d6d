"""Draws of means: their spread is what repeating the experiment would show."""

import numpy as np
import pytest
from scipy.stats import t as student

from rctaf_jax.experiments.claims.sampling import (
    SCATTER,
    SEEDS,
    Noise,
    Values,
    draw_means,
    find_noise,
    fit_effects,
    image_covariance,
)

GRID = np.geomspace(0.5, 50, 8)


def noise_of(values: Values, curves=()) -> Noise | None:
    return find_noise(values, fit_effects(values), curves)


def test_noise_over_seeds_leaves_out_what_a_seed_does_to_all():
    rng = np.random.default_rng(0)
    activation, seed = rng.normal(size=20), 5 * rng.normal(size=3)
    noise = 0.1 * rng.normal(size=(20, 3))
    values = activation[:, None] + seed + noise
    found = noise_of([dict(enumerate(row)) for row in values])
    assert found is not None
    assert found.source == SEEDS
    assert found.freedom == 19 * 2
    assert found.deviation == pytest.approx(0.1, rel=0.25)
    centred = noise - noise.mean(0) - noise.mean(1, keepdims=True) + noise.mean()
    assert found.deviation == pytest.approx(np.sqrt(np.sum(centred**2) / found.freedom))


def test_noise_of_an_incomplete_table():
    groups = [{0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.5}, {1: 7.0}, {0: 5.0, 1: 5.0}, {0: 1.0, 1: 2.5}]
    found = noise_of(groups)
    assert found is not None
    assert found.freedom == 9 - (5 + 2 - 1)


def test_too_few_repeats_say_nothing():
    assert noise_of([{0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.5}]) is None
    assert noise_of([{0: 1.0}, {0: 2.0}]) is None


def test_a_repeated_seed_takes_nothing_away():
    """With one more network there is still the scatter of the others to tell chance by."""
    rng = np.random.default_rng(1)
    values = [{0: float(v)} for v in rng.normal(size=len(GRID))]
    curves = [(list(range(len(GRID))), list(GRID)), ([0, 1], [0.5, 1.0])]
    values[3][1] = 0.3
    noise = noise_of(values, curves[:1] * 2)
    assert noise is not None
    assert noise.source == SCATTER
    assert noise_of(values, curves[1:]) is None


def test_a_missing_seed_shifts_nothing():
    """Its share is known from the other activations, exactly without noise."""
    activation, seed = np.array([1.0, 2.0, 4.0, 8.0]), np.array([-3.0, 3.0])
    values = [dict(enumerate(map(float, row))) for row in activation[:, None] + seed]
    del values[2][0]
    effects = fit_effects(values)
    np.testing.assert_allclose(effects.means, activation, atol=1e-12)
    assert effects.squares == pytest.approx(0.0, abs=1e-20)
    assert effects.freedom == 7 - 5
    assert effects.covariance[2, 2] > 1.0  # of one network, its seed's share estimated
    assert effects.covariance[0, 0] == pytest.approx(0.5)


def test_activations_with_seeds_of_their_own_are_not_paired():
    effects = fit_effects([{0: 1.0, 1: 3.0}, {2: 4.0, 3: 4.0}])
    np.testing.assert_allclose(effects.means, [2.0, 4.0])
    np.testing.assert_allclose(effects.covariance, np.eye(2) / 2, atol=1e-12)
    assert effects.freedom == 2


def test_without_repeated_seeds_it_is_the_scatter_about_smooth_curves():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(60):
        values = [-(np.log(GRID / 6) ** 2) / 4 + 0.2 * rng.normal(size=len(GRID)) for _ in range(3)]
        groups = [{0: float(value)} for value in np.concatenate(values)]
        curves = [(list(range(8 * i, 8 * i + 8)), list(GRID)) for i in range(3)]
        noise = noise_of(groups, curves)
        assert noise is not None
        assert noise.source == SCATTER
        assert 6 < noise.freedom < 9
        found.append(noise.deviation**2)
    # 60 runs of 7 degrees of freedom: the mean is known to 7%, and a smooth fit is a little off.
    assert np.mean(found) == pytest.approx(0.04, rel=0.2)


def test_draws_of_one_mean_are_students():
    noise, values = Noise(0.5, 6.0, SEEDS), [{0: 1.0, 1: 3.0}]
    rng = np.random.default_rng(0)
    sample = draw_means(rng, values, fit_effects(values), noise, num_draws=20_000)
    assert sample.means[0] == pytest.approx(2.0)
    assert sample.counts[0] == 2
    half = 0.5 / np.sqrt(2) * student.ppf(0.975, 6)
    ends = np.quantile(sample.draws[:, 0], [0.025, 0.975])
    np.testing.assert_allclose(ends, [2 - half, 2 + half], atol=0.04 * half)


def test_draws_of_accuracies_move_with_the_same_images_for_all():
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.6
    outcomes = [{0: right}, {0: right}, {0: ~right}]
    values = [{0: float(group[0].mean())} for group in outcomes]
    images = image_covariance(outcomes)
    noise = Noise(0.0, 10.0, SEEDS)
    sample = draw_means(rng, values, fit_effects(values), noise, images, num_draws=4000)
    np.testing.assert_allclose(sample.draws[:, 0], sample.draws[:, 1], atol=1e-6)
    np.testing.assert_allclose(sample.draws[:, 0] + sample.draws[:, 2], 1, atol=1e-5)
    p = right.mean()
    assert sample.draws[:, 0].std() == pytest.approx(np.sqrt(p * (1 - p) / 400), rel=0.05)


def test_an_images_luck_with_one_network_is_not_counted_twice():
    """Outcomes independent of one another: the spread over seeds has all of their noise in it."""
    rng = np.random.default_rng(0)
    outcomes = [{seed: rng.random(20_000) < 0.6 for seed in range(4)} for _ in range(3)]
    alone = [{0: group[0]} for group in outcomes]
    expected = 0.24 / 20_000
    np.testing.assert_allclose(np.diag(image_covariance(alone)), expected, rtol=0.03)
    assert np.abs(image_covariance(outcomes)).max() < 0.03 * expected
    lost = [{0: outcomes[0][0]}, *outcomes[1:]]  # not every activation has every seed: kept
    np.testing.assert_allclose(np.diag(image_covariance(lost))[1:], expected / 4, rtol=0.05)


def test_what_all_networks_find_hard_stays():
    rng = np.random.default_rng(0)
    hard = rng.random(20_000) < 0.6
    covariance = image_covariance([{0: hard, 1: hard}, {0: ~hard, 1: ~hard}])
    np.testing.assert_allclose(np.diag(covariance), hard.var() / 20_000, rtol=1e-3)
    assert covariance[0, 1] < 0
