"""Spectral densities against exact spectra."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import density
from rctaf_jax.hessian.hutchinson import rademacher

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def rotated(values: np.ndarray) -> jax.Array:
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(len(values), len(values))))
    return jnp.asarray((basis * values) @ basis.T)


def probed(values: np.ndarray, probes: range, num_steps: int) -> density.Quadratures:
    matrix = rotated(values)
    multiply = jax.jit(lambda v: matrix @ v)
    return density.run(
        density.init(num_steps=num_steps), multiply, jnp.zeros(len(values)), probes, KEY
    )


def spectrum(size: int) -> np.ndarray:
    """Most of it near 0, some below, a few far out: what Hessians of networks look like."""
    rng = np.random.default_rng(1)
    few = [9.0, 7.0, 5.5, 4.0, 3.0]
    bulk = rng.exponential(0.3, size // 2)
    below = -rng.exponential(0.1, size // 10)
    return np.sort([*few, *bulk, *below, *np.zeros(size - 5 - len(bulk) - len(below))])


def test_the_distance_to_the_exact_spectrum_of_2000() -> None:
    """20 probes of 60 products: 0.075% of the range was measured."""
    values = spectrum(2000)
    state = probed(values, range(20), 60)
    assert state.num_products == 1200
    distance = wasserstein_distance(values, state.nodes.ravel(), None, state.weights.ravel())
    print("W1", distance / np.ptp(values))
    assert distance < 5e-3 * np.ptp(values)


def test_moments_are_exact_for_each_probe() -> None:
    """Gauss quadrature: v^T H^d v / p for d up to 2 k - 1."""
    values = spectrum(60)
    matrix, state = np.asarray(rotated(values)), probed(values, range(3), 4)
    for probe in range(3):
        signs = np.asarray(rademacher(KEY, probe, jnp.zeros(60)))
        for degree in range(8):
            exact = signs @ np.linalg.matrix_power(matrix, degree) @ signs / 60
            found = state.weights[probe] @ state.nodes[probe] ** degree
            assert found == pytest.approx(exact, rel=1e-9)


def test_the_band_covers_the_exact_curves() -> None:
    values = spectrum(200)
    state = probed(values, range(40), 60)
    grid = np.linspace(-1, 10, 45)
    exact = np.exp(-(((grid[:, None] - values) / 0.3) ** 2) / 2).mean(axis=1)
    smooth = density.smooth(state, grid, width=0.3)
    off = np.abs(smooth.mean - exact / (0.3 * np.sqrt(2 * np.pi)))
    assert (off < 4 * smooth.standard_error + 1e-9).all()
    assert (smooth.standard_error > 0).all()
    # Both are of one distribution.
    ends = grid + 1e-4, grid - 1e-4
    above, below = (density.cumulative(state, end, width=0.3).mean for end in ends)
    np.testing.assert_allclose((above - below) / 2e-4, smooth.mean, atol=1e-6)
    steps = density.cumulative(state, np.array([values[0] - 1, 2.5, values[-1] + 1]))
    assert steps.mean[[0, 2]] == pytest.approx([0, 1])
    share = (values <= 2.5).mean()
    assert abs(steps.mean[1] - share) < 4 * steps.standard_error[1]


def test_resuming_and_merging() -> None:
    values = spectrum(40)
    matrix = rotated(values)

    def run(state: density.Quadratures, probes: range) -> density.Quadratures:
        return density.run(state, lambda v: matrix @ v, jnp.zeros(40), probes, KEY)

    empty = density.init(num_steps=5)
    whole, half = run(empty, range(6)), run(empty, range(3))
    jax.tree.map(np.testing.assert_array_equal, run(half, range(3, 6)), whole)
    jax.tree.map(np.testing.assert_array_equal, density.merge(half, run(empty, range(3, 6))), whole)


@pytest.mark.parametrize("values", [[3.0], [0.0] * 5, [2.0] * 5, [1.0, 1.0, 4.0, 4.0]])
def test_few_eigenvalues(values: list[float]) -> None:
    """More steps than parameters, and spaces that are exhausted at once."""
    state = probed(np.array(values), range(8), 6)
    np.testing.assert_allclose(state.weights.sum(axis=1), 1)
    nodes = state.nodes[state.weights > 1e-9]
    assert np.abs(nodes[:, None] - values).min(axis=1).max() < 1e-7
    assert "below 0" in state.summary()


def test_bad_input() -> None:
    state = probed(np.array([1.0, 2.0]), range(1), 2)
    assert np.isnan(density.smooth(state, np.zeros(1), width=1.0).standard_error).all()
    with pytest.raises(InputError, match="num_steps must be at least 1, got 0"):
        density.init(num_steps=0)
    for width in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="width must be positive and finite"):
            density.smooth(state, np.zeros(1), width=width)
    with pytest.raises(InputError, match="width must be 0 or positive"):
        density.cumulative(state, np.zeros(1), width=-1.0)
    with pytest.raises(InputError, match="at least one probe"):
        density.cumulative(density.init(), np.zeros(1))
    with pytest.raises(InputError, match="of 2 and of 60 steps"):
        density.merge(state, density.init())
    for params in ({}, jnp.zeros(2, int), jnp.zeros(2, bool), jnp.zeros(2, complex)):
        with pytest.raises(InputError, match="floating-point types only"):
            density.run(state, lambda v: v, params, range(1), KEY)
