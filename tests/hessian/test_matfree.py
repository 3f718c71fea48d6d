"""Hutchinson's and XDiag's estimators against matfree's, on the same random signs."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from matfree import stochtrace

from rctaf_jax.hessian import estimate, hutchinson, init, xdiag
from rctaf_jax.hessian.hutchinson import rademacher

KEY, NUM_PROBES, BLOCK_SIZE = jax.random.key(3), 12, 6


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def product(vector: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """By a symmetric matrix of 30 rows, whose spectrum decays."""
    flat, restore = ravel_pytree(vector)
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 30)))
    matrix = basis * (10.0 / (1 + np.arange(30)) ** 2 - 0.05) @ basis.T
    return restore(matrix @ flat)


def params() -> dict[str, jax.Array]:
    return {"kernel": jnp.zeros((4, 5)), "bias": jnp.zeros(10)}


def signs(count: int) -> dict[str, jax.Array]:
    """Our own, stacked."""
    drawn = [rademacher(KEY, probe, params()) for probe in range(count)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def assert_equal_trees(ours: dict[str, jax.Array], theirs: dict[str, jax.Array]) -> None:
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-10, atol=1e-12)


def test_hutchinson_and_its_standard_error() -> None:
    samples = signs(NUM_PROBES)
    theirs = stochtrace.estimator_monte_carlo_mean_and_sem(
        stochtrace.monte_carlo_diagonal(), lambda _: samples
    )
    mean, error = theirs(product, KEY)
    ours = estimate(hutchinson.run(init(params()), product, range(NUM_PROBES), KEY))
    assert_equal_trees(ours.diagonal, mean)
    # Theirs is divided by m, ours by m - 1, without bias.
    unbiased = (NUM_PROBES / (NUM_PROBES - 1)) ** 0.5
    assert_equal_trees(
        ours.diagonal_standard_error, jax.tree.map(lambda leaf: unbiased * leaf, error)
    )


def test_a_block_of_xdiag() -> None:
    samples = signs(BLOCK_SIZE)
    theirs = stochtrace.estimator_leave_one_out(stochtrace.leave_one_out_xdiag(), lambda _: samples)
    state = xdiag.update(init(params()), product, 0, KEY, block_size=BLOCK_SIZE)
    ours = jax.tree.map(lambda leaf: leaf[0], state.group_sum)
    assert_equal_trees(ours, theirs(product, KEY))
