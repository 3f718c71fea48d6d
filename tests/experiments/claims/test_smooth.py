"""The smooth curve and its peak: a linear fit of a known size, right where the truth is known."""

import numpy as np
import pytest

from rctaf_jax.experiments.claims.smooth import effective_size, find_peaks, smoother

GRID = np.array([0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 20.0, 50.0])


@pytest.mark.parametrize("size", [5, 6, 8, 20, 50])
def test_the_trace_is_the_effective_size(size):
    curvatures = np.geomspace(0.5, 50, size)
    assert np.trace(smoother(curvatures, curvatures)) == pytest.approx(
        effective_size(size), abs=0.01
    )


def test_lines_in_log_curvature_are_kept():
    places = np.geomspace(0.5, 50, 30)
    fitted = smoother(GRID, places) @ (3 + 2 * np.log(GRID))
    np.testing.assert_allclose(fitted, 3 + 2 * np.log(places), atol=1e-6)


def test_it_is_linear_in_the_values():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, len(GRID)))
    matrix = smoother(GRID, np.array([0.7, 5.0, 33.0]))
    np.testing.assert_allclose(matrix @ (2 * a - b), 2 * (matrix @ a) - matrix @ b)


@pytest.mark.parametrize("place", [1.5, 6.0, 20.0])
def test_a_smooth_peak_is_found(place):
    means = -(np.log(GRID / place) ** 2)
    peaks = find_peaks(GRID, means, means[None])
    assert peaks.place == pytest.approx(place, rel=0.2)
    assert peaks.edge is None


@pytest.mark.parametrize(("sign", "edge"), [(1, "largest"), (-1, "smallest")])
def test_a_monotone_curve_peaks_at_its_end(sign, edge):
    means = sign * np.log(GRID)
    assert find_peaks(GRID, means, means[None]).edge == edge


def test_a_curve_that_rises_and_stays_level_has_no_certain_peak():
    """A parabola through it peaks in the middle of the range with certainty."""
    rng = np.random.default_rng(1)
    means = np.minimum(np.log(GRID / 2), 0)
    draws = means + 0.05 * rng.normal(size=(500, len(GRID)))
    assert 0.05 < find_peaks(GRID, means, draws).probability(4, 10) < 0.95
    parabolas = np.polyfit(np.log(GRID), draws.T, 2)
    middles = np.exp(-parabolas[1] / (2 * parabolas[0]))
    assert np.mean((middles > 4) & (middles < 20)) > 0.95
