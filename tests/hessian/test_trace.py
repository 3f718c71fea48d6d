"""Trace and Frobenius norm against dense matrices, and matfree's XTrace."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from matfree import stochtrace

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import trace
from rctaf_jax.hessian.hutchinson import rademacher

KEY = jax.random.key(0)
SIZE = 40
Params = dict[str, jax.Array]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def matrix() -> np.ndarray:
    """Symmetric, of both signs, with a spectrum that decays."""
    basis, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))
    values = 10.0 / (1 + np.arange(SIZE)) ** 1.5 * np.where(np.arange(SIZE) % 4 == 3, -1, 1)
    return (basis * values) @ basis.T


HESSIAN = matrix()
TRACE, SQUARE = np.trace(HESSIAN), np.sum(HESSIAN**2)


def params() -> Params:
    return {"kernel": jnp.zeros((5, 6)), "bias": jnp.zeros(10)}


def product(vector: Params) -> Params:
    flat, restore = ravel_pytree(vector)
    return restore(jnp.asarray(HESSIAN) @ flat)


def test_probes_are_their_formulas() -> None:
    state = trace.run(trace.init(), product, params(), range(6), KEY)
    signs = np.stack([ravel_pytree(rademacher(KEY, i, params()))[0] for i in range(6)])
    images = signs @ HESSIAN
    found = trace.estimate(state)
    for number, terms in (
        (found.trace, (signs * images).sum(axis=1)),
        (found.frobenius_squared, (images**2).sum(axis=1)),
    ):
        assert number.value == pytest.approx(terms.mean())
        assert number.standard_error == pytest.approx(terms.std(ddof=1) / np.sqrt(6))
        low, high = number.interval
        assert (high - low) / 2 == pytest.approx(2.5706 * number.standard_error, rel=1e-4)
    assert found.num_products == found.num_terms == 6
    assert "by 6 Hessian-vector products" in found.summary()


def test_a_block_is_matfrees_xtrace() -> None:
    state = trace.run_blocks(trace.init(), product, params(), range(1), KEY, block_size=8)
    drawn = [rademacher(KEY, i, params()) for i in range(8)]
    samples = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
    theirs = stochtrace.leave_one_out_xtrace(apply_resphering=False)(product, samples)
    assert state.mean[0] == pytest.approx(float(theirs.mean()), rel=1e-10)
    assert state.num_products == 16


def test_a_block_is_its_definition() -> None:
    """By leaving one product out at a time, in full."""
    signs = np.stack([ravel_pytree(rademacher(KEY, 5 + i, params()))[0] for i in range(5)], axis=1)
    terms = []
    for i in range(5):
        basis, _ = np.linalg.qr(HESSIAN @ np.delete(signs, i, axis=1))
        rest = signs[:, i] - basis @ (basis.T @ signs[:, i])
        terms.append(
            [
                np.trace(basis.T @ HESSIAN @ basis) + rest @ HESSIAN @ rest,
                np.sum((HESSIAN @ basis) ** 2) + np.sum((HESSIAN @ rest) ** 2),
            ]
        )
    state = trace.run_blocks(trace.init(), product, params(), range(1, 2), KEY, block_size=5)
    np.testing.assert_allclose(state.mean, np.mean(terms, axis=0), rtol=1e-10)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_blocks_are_exact_where_products_span_everything(rank: int) -> None:
    factor = np.random.default_rng(4).normal(size=(6, rank))
    low_rank = jnp.asarray(factor @ factor.T)
    state = trace.run_blocks(
        trace.init(), lambda v: low_rank @ v, jnp.zeros(6), range(3), KEY, block_size=4
    )
    found = trace.estimate(state)
    assert found.trace.value == pytest.approx(float(jnp.trace(low_rank)), abs=1e-12)
    assert found.frobenius_squared.value == pytest.approx(float(jnp.sum(low_rank**2)), abs=1e-11)
    assert found.trace.standard_error == pytest.approx(0, abs=1e-12)


def intervals(
    terms: Callable[[int], np.ndarray], repetitions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each repetition's two intervals hold the truth, the values, and their errors."""
    truth = np.array([TRACE, SQUARE])
    covered, values, errors = [], [], []
    for repetition in range(repetitions):
        found = trace.estimate(trace.add(trace.init(), list(terms(repetition)), 1))
        numbers = found.trace, found.frobenius_squared
        pairs = zip(numbers, truth, strict=True)
        covered.append([n.interval[0] <= t <= n.interval[1] for n, t in pairs])
        values.append([n.value for n in numbers])
        errors.append([n.standard_error for n in numbers])
    return np.array(covered), np.array(values), np.array(errors)


def test_intervals_of_probes_cover_the_truth() -> None:
    """Over 500 repetitions of 256 probes."""
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(500, 256, SIZE))
    images = signs @ HESSIAN
    terms = np.stack([(signs * images).sum(axis=2), (images**2).sum(axis=2)], axis=2)
    covered, values, errors = intervals(lambda repetition: terms[repetition], 500)
    print(covered.mean(axis=0))
    assert (covered.mean(axis=0) >= 0.93).all()
    assert (covered.mean(axis=0) <= 0.97).all()
    off = values.mean(axis=0) - [TRACE, SQUARE]
    assert (np.abs(off) < 4 * values.std(axis=0) / np.sqrt(500)).all()
    np.testing.assert_allclose(
        np.sqrt((errors**2).mean(axis=0)), values.std(axis=0), rtol=4 / np.sqrt(1000)
    )


def block_terms(num_blocks: int) -> np.ndarray:
    terms = [
        trace.run_blocks(trace.init(), product, params(), range(i, i + 1), KEY, block_size=4).mean
        for i in range(num_blocks)
    ]
    return np.array(terms)


def test_blocks_have_no_bias() -> None:
    terms = block_terms(150)
    off = terms.mean(axis=0) - [TRACE, SQUARE]
    assert (np.abs(off) < 4 * terms.std(axis=0) / np.sqrt(150)).all()


@pytest.mark.slow
def test_intervals_of_blocks_cover_the_truth() -> None:
    """Over 500 repetitions of 8 blocks."""
    terms = block_terms(4000).reshape(500, 8, 2)
    covered, _, _ = intervals(lambda repetition: terms[repetition], 500)
    print(covered.mean(axis=0))
    assert (covered.mean(axis=0) >= 0.93).all()
    assert (covered.mean(axis=0) <= 0.97).all()


def test_resuming_and_merging() -> None:
    def run(state: trace.TraceSums, probes: range) -> trace.TraceSums:
        return trace.run(state, product, params(), probes, KEY)

    whole = run(trace.init(), range(9))
    resumed = run(run(trace.init(), range(4)), range(4, 9))
    merged = trace.merge(run(trace.init(), range(0, 9, 2)), run(trace.init(), range(1, 9, 2)))
    for other in (resumed, merged):
        assert other[:2] == whole[:2]
        np.testing.assert_allclose(other.mean, whole.mean, rtol=1e-13)
        np.testing.assert_allclose(other.deviation, whole.deviation, rtol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, trace.merge(trace.init(), whole), whole)
    jax.tree.map(np.testing.assert_array_equal, trace.merge(whole, trace.init()), whole)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="at least 1 probe or block, got 0"):
        trace.estimate(trace.init())
    one = trace.estimate(trace.run(trace.init(), product, params(), range(1), KEY))
    assert np.isnan(one.trace.interval).all()
    with pytest.raises(InputError, match="block_size must be at least 1, got 0"):
        trace.run_blocks(trace.init(), product, params(), range(1), KEY, block_size=0)
    for bad in ({}, jnp.zeros(2, int), jnp.zeros(2, bool), jnp.zeros(2, complex)):
        with pytest.raises(InputError, match="floating-point types only"):
            trace.run(trace.init(), lambda v: v, bad, range(1), KEY)
        with pytest.raises(InputError, match="floating-point types only"):
            trace.run_blocks(trace.init(), lambda v: v, bad, range(1), KEY, block_size=2)
    with pytest.raises(InputError, match="not finite"):
        trace.run(trace.init(), lambda v: v / 0, jnp.zeros(2), range(1), KEY)
    with pytest.raises(InputError, match="not finite"):
        trace.run_blocks(trace.init(), lambda v: v / 0, jnp.zeros(2), range(1), KEY, block_size=2)
