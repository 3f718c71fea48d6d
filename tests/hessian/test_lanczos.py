"""Lanczos' decomposition and the basis that grows by it, against dense matrices."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matfree import decomp

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import krylov
from rctaf_jax.hessian.lanczos import FlatProduct, flat_product, tridiagonalise

SIZE = 30


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def symmetric(values: np.ndarray) -> np.ndarray:
    """A dense matrix with these eigenvalues."""
    square = np.random.default_rng(0).normal(size=(len(values), len(values)))
    basis, _ = np.linalg.qr(square)
    return (basis * values) @ basis.T


HESSIAN = symmetric(np.random.default_rng(1).normal(size=SIZE))
START = np.random.default_rng(2).normal(size=SIZE)


def counted(matrix: np.ndarray, calls: list[int]) -> FlatProduct:
    """A product on the host, which nothing can trace."""

    def product(vector: jax.Array) -> jax.Array:
        calls.append(1)
        return jnp.asarray(matrix @ np.asarray(vector))

    return product


def test_it_equals_matfree_in_one_program_and_takes_a_product_a_step() -> None:
    calls: list[int] = []
    ours = tridiagonalise(counted(HESSIAN, calls), jnp.asarray(START), 12)
    theirs = decomp.tridiag_sym(12, materialize=False)(lambda v: HESSIAN @ v, jnp.asarray(START))
    np.testing.assert_allclose(ours.diagonal, theirs.J_small[0], atol=1e-12)
    np.testing.assert_allclose(ours.off_diagonal, theirs.J_small[1], atol=1e-12)
    np.testing.assert_allclose(ours.basis, theirs.Q_tall, atol=1e-11)
    assert len(calls) == ours.num_products == 12
    rows = np.asarray(ours.basis)
    np.testing.assert_allclose(rows @ rows.T, np.eye(12), atol=1e-13)
    matrix = np.diag(ours.diagonal) + np.diag(ours.off_diagonal, 1) + np.diag(ours.off_diagonal, -1)
    expected = matrix @ rows + np.outer(np.eye(12)[-1], ours.residual)
    np.testing.assert_allclose(rows @ HESSIAN, expected, atol=1e-13)


@pytest.mark.parametrize(("values", "size"), [([2.0] * 6, 1), ([0.0] * 6, 1), ([1, 2, 2, 5, 5], 3)])
def test_an_exhausted_space_ends_it(values: list[float], size: int) -> None:
    matrix = np.diag(values) if len({*values}) == 1 else symmetric(np.array(values))
    found = tridiagonalise(lambda v: matrix @ v, jnp.ones(len(values)), len(values))
    assert found.basis.shape == (size, len(values))
    tridiagonal = np.diag(found.diagonal) + np.diag(found.off_diagonal, 1)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(tridiagonal, UPLO="U"), sorted({*values}), atol=1e-12
    )
    assert np.linalg.norm(found.residual) < 1e-7


def test_what_is_not_finite_is_said_once_it_is_met() -> None:
    matrix = HESSIAN.copy()
    matrix[3, 4] = np.nan
    with pytest.raises(InputError, match="not finite"):
        tridiagonalise(lambda v: matrix @ v, jnp.asarray(START), 5)


def test_trees_of_several_types_are_one_vector() -> None:
    like = {"a": jnp.zeros(2, jnp.float32), "b": jnp.zeros((), jnp.float64)}
    product = flat_product(lambda v: {"a": 2 * v["a"], "b": v["b"] + v["a"].sum()}, like)
    result = product(jnp.array([1.0, 2.0, 3.0]))
    assert result.dtype == jnp.float64
    np.testing.assert_array_equal(result, [2, 4, 6])


def test_a_basis_grown_in_parts_is_exact() -> None:
    """Three sequences, one of them gone on with: T = Q^T H Q and every residual as it is."""
    basis = krylov.empty(jnp.asarray(START))
    starts = iter(np.random.default_rng(3).normal(size=(3, SIZE)))
    for is_new in (True, False, True, True):
        start = jnp.asarray(next(starts)) if is_new else basis.leftovers[-1][1]
        basis = krylov.extend(basis, lambda v: HESSIAN @ v, start, 5)
    rows = np.asarray(basis.basis)
    assert basis.num_products == len(rows) == 20
    np.testing.assert_allclose(rows @ rows.T, np.eye(20), atol=1e-12)
    np.testing.assert_allclose(basis.matrix, rows @ HESSIAN @ rows.T, atol=1e-12)
    found = krylov.ritz(basis)
    vectors = found.weights.T @ rows
    residuals = vectors @ HESSIAN - found.values[:, None] * vectors
    np.testing.assert_allclose(found.residuals, np.linalg.norm(residuals, axis=1), atol=1e-10)
    # The last sequence alone is Lanczos' on the complement of what was before.
    outside = np.eye(SIZE) - rows[:15].T @ rows[:15]
    last = krylov.ritz(basis, first=15)
    vectors = last.weights.T @ rows[15:]
    residuals = vectors @ outside @ HESSIAN @ outside - last.values[:, None] * vectors
    np.testing.assert_allclose(last.residuals, np.linalg.norm(residuals, axis=1), atol=1e-10)
