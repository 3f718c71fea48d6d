"""Draws of means: their spread is what repeating the experiment would show."""

import numpy as np
import pytest
from scipy.stats import t as student

from rctaf_jax.experiments.claims.sampling import (
    SCATTER,
    SEEDS,
    Noise,
    draw_accuracies,
    draw_logarithms,
    find_noise,
)

GRID = np.geomspace(0.5, 50, 8)


def test_noise_over_seeds_leaves_out_what_a_seed_does_to_all():
    rng = np.random.default_rng(0)
    activation, seed = rng.normal(size=20), 5 * rng.normal(size=3)
    noise = 0.1 * rng.normal(size=(20, 3))
    values = activation[:, None] + seed + noise
    found = find_noise([dict(enumerate(row)) for row in values], [])
    assert found is not None
    assert found.source == SEEDS
    assert found.freedom == 19 * 2
    assert found.deviation == pytest.approx(0.1, rel=0.25)
    centred = noise - noise.mean(0) - noise.mean(1, keepdims=True) + noise.mean()
    assert found.deviation == pytest.approx(np.sqrt(np.sum(centred**2) / found.freedom))


def test_noise_of_an_incomplete_table():
    groups = [{0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.5}, {1: 7.0}, {0: 5.0, 1: 5.0}, {0: 1.0, 1: 2.5}]
    found = find_noise(groups, [])
    assert found is not None
    assert found.freedom == 9 - (5 + 2 - 1)


def test_too_few_repeats_say_nothing():
    assert find_noise([{0: 1.0, 1: 2.0}, {0: 3.0, 1: 4.5}], []) is None
    assert find_noise([{0: 1.0}, {0: 2.0}], []) is None


def test_without_repeated_seeds_it_is_the_scatter_about_smooth_curves():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(60):
        values = [-(np.log(GRID / 6) ** 2) / 4 + 0.2 * rng.normal(size=len(GRID)) for _ in range(3)]
        groups = [{0: float(value)} for value in np.concatenate(values)]
        curves = [(list(range(8 * i, 8 * i + 8)), list(GRID)) for i in range(3)]
        noise = find_noise(groups, curves)
        assert noise is not None
        assert noise.source == SCATTER
        assert 6 < noise.freedom < 9
        found.append(noise.deviation**2)
    # 60 runs of 7 degrees of freedom: the mean is known to 7%, and a smooth fit is a little off.
    assert np.mean(found) == pytest.approx(0.04, rel=0.2)


def test_draws_of_one_mean_are_students():
    noise = Noise(0.5, 6.0, SEEDS)
    sample = draw_logarithms(np.random.default_rng(0), [[1.0, 3.0]], noise, num_draws=20_000)
    assert sample.means[0] == 2.0
    half = 0.5 / np.sqrt(2) * student.ppf(0.975, 6)
    ends = np.quantile(sample.draws[:, 0], [0.025, 0.975])
    np.testing.assert_allclose(ends, [2 - half, 2 + half], atol=0.04 * half)


def test_draws_of_accuracies_resample_the_same_images_for_all():
    rng = np.random.default_rng(0)
    right = rng.random((1, 400)) < 0.6
    noise = Noise(0.0, 10.0, SEEDS)
    sample = draw_accuracies(rng, [right, right, ~right], noise, num_draws=4000)
    assert sample.means[0] == right.mean()
    np.testing.assert_allclose(sample.draws[:, 0], sample.draws[:, 1], atol=1e-6)
    np.testing.assert_allclose(sample.draws[:, 0] + sample.draws[:, 2], 1, atol=1e-5)
    p = right.mean()
    assert sample.draws[:, 0].std() == pytest.approx(np.sqrt(p * (1 - p) / 400), rel=0.05)
