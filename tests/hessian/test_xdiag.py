import itertools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    DiagonalSums,
    HessianEstimate,
    estimate,
    init,
    merge,
    run,
    xdiag,
)
from rctaf_jax.hessian.hutchinson import rademacher

KEY = jax.random.key(0)
Params = dict[str, jax.Array]
Product = Callable[[Params], Params]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _symmetric(size: int, rank: int | None = None, seed: int = 0) -> np.ndarray:
    """A random symmetric matrix; indefinite."""
    rank = size if rank is None else rank
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(size, rank))
    return factor @ np.diag(rng.choice([-1.0, 1.0], rank)) @ factor.T


def _tree(flat: jax.Array) -> Params:
    return {"a": flat[:2].reshape(2, 1), "b": flat[2:]}


def _flat(tree: Params) -> jax.Array:
    return jnp.concatenate([tree["a"].ravel(), tree["b"]])


@jax.jit
def _multiply(matrix: jax.Array, vector: Params) -> Params:
    return _tree(matrix.astype(vector["b"].dtype) @ _flat(vector))


def _product_of(matrix: np.ndarray) -> Product:
    return lambda vector: _multiply(matrix, vector)


def _term(matrix: np.ndarray, signs: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """The module's estimate from given signs, [k, p]."""
    rows = jnp.asarray(signs, dtype)
    like = _tree(jnp.zeros(len(matrix), dtype))
    term = xdiag._term(lambda i: _tree(rows[i]), _product_of(matrix), len(signs), like)
    return np.asarray(_flat(term))


def _definition(matrix: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The formula, every basis built by itself from the products that it spans."""
    products, terms = signs @ matrix, []
    for i, sign in enumerate(signs):
        others = np.delete(products, i, axis=0)
        _, values, rows = np.linalg.svd(others, full_matrices=False)
        basis = rows[values > 1e-10 * np.abs(matrix).max()]
        projector = basis.T @ basis
        rest = np.eye(len(matrix)) - projector
        terms.append(np.diag(projector @ matrix) + sign * (rest @ products[i]))
    return np.mean(terms, axis=0)


def _signs(k: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice([-1.0, 1.0], (k, size))


@pytest.mark.parametrize(("size", "rank", "k"), [(12, 12, 5), (12, 3, 2), (12, 5, 5), (9, 9, 1)])
def test_equals_the_definition(size: int, rank: int, k: int) -> None:
    for seed in range(3):
        matrix, signs = _symmetric(size, rank, seed), _signs(k, size, seed)
        expected = _definition(matrix, signs)
        np.testing.assert_allclose(_term(matrix, signs), expected, rtol=1e-9, atol=1e-10)


def test_dependent_products_equal_the_definition() -> None:
    """Signs twice, opposite signs, more products than dimensions, and half a matrix of zeros."""
    matrix, signs = _symmetric(6), _signs(3, 6)
    half = np.zeros((6, 6))
    half[:3, :3] = matrix[:3, :3]
    for each, probes in (
        (matrix, signs[[0, 1, 1]]),
        (matrix, np.stack([signs[0], -signs[0], signs[2]])),
        (matrix, _signs(9, 6, 1)),
        (half, signs),
        (half, np.stack([signs[0], signs[0] * [1, 1, 1, -1, 1, 1], signs[1]])),
    ):
        np.testing.assert_allclose(_term(each, probes), _definition(each, probes), atol=1e-10)


@pytest.mark.parametrize(
    "matrix",
    [_symmetric(3), _symmetric(3, 1), np.diag([1.0, -2.0, 3.0]), np.ones((3, 3))],
    ids=["full", "rank 1", "diagonal", "ones"],
)
def test_mean_over_all_signs_is_the_diagonal(matrix: np.ndarray) -> None:
    """All 64 pairs of signs, equal and opposite ones included: no bias at all."""
    rows = list(itertools.product([-1.0, 1.0], repeat=3))
    terms = [_term(matrix, np.array(pair)) for pair in itertools.product(rows, repeat=2)]
    np.testing.assert_allclose(np.mean(terms, axis=0), np.diag(matrix), atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_exact_when_the_products_span_the_range(dtype: type, tolerance: float) -> None:
    matrix = _symmetric(20, 4)
    expected = np.diag(matrix)
    actual = _term(matrix, _signs(6, 20), dtype)
    assert np.linalg.norm(actual - expected) < tolerance * np.linalg.norm(expected)
    np.testing.assert_array_equal(_term(np.zeros((20, 20)), _signs(6, 20), dtype), 0)


def test_a_block_of_one_is_a_probe_of_hutchinsons() -> None:
    matrix = _symmetric(10)
    product, start = _product_of(matrix), init(_tree(jnp.zeros(10)), num_groups=2)
    block = xdiag.run(start, product, range(5), KEY, block_size=1)
    probes = run(start, product, range(5), KEY)
    for one, other in zip(
        jax.tree.leaves(block.group_sum), jax.tree.leaves(probes.group_sum), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert (int(block.num_products), int(probes.num_products)) == (10, 5)


def test_diagonal_matrix_is_exact_with_one_probe() -> None:
    matrix = np.diag(np.arange(-3.0, 4.0))
    np.testing.assert_allclose(_term(matrix, _signs(1, 7)), np.diag(matrix), atol=1e-14)


MATRIX = _symmetric(24) / 24 + _symmetric(24, 3, 1)


def _run(blocks: range, key: jax.Array = KEY, num_groups: int = 4) -> DiagonalSums:
    start = init(_tree(jnp.zeros(24)), num_groups=num_groups)
    return xdiag.run(start, PRODUCT, blocks, key, block_size=3)


PRODUCT = _product_of(MATRIX)


def test_signs_of_a_block_are_the_streams() -> None:
    """Block 2 of 3 vectors has the signs 6, 7 and 8, and its term the group 2 modulo 2."""
    like = _tree(jnp.zeros(24))
    signs = np.stack([_flat(rademacher(KEY, i, like)) for i in (6, 7, 8)])
    state = _run(range(2, 3), num_groups=2)
    total = _flat(jax.tree.map(lambda x: x[0], state.group_sum))
    np.testing.assert_allclose(total, _definition(MATRIX, signs), atol=1e-10)
    assert state.num_terms.tolist() == [1, 0]
    assert state.num_products == 6


def test_unbiased_and_honest_about_its_error() -> None:
    """Over 150 runs of 4 blocks: mean of q, size of its error, coverage; entries likewise."""
    num_runs, exact = 150, np.diag(MATRIX)
    results = [estimate(_run(range(4), jax.random.key(seed))) for seed in range(num_runs)]
    q = np.array([result.mean_square.q for result in results])
    expected = np.mean(exact**2)
    assert abs(q.mean() - expected) < 4 * q.std() / math.sqrt(num_runs)
    variance = np.array([result.mean_square.standard_error**2 for result in results])
    assert 0.6 < variance.mean() / q.var() < 2
    inside = [r.mean_square.interval[0] <= expected <= r.mean_square.interval[1] for r in results]
    assert np.mean(inside) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / num_runs)
    diagonals = np.array([_flat(result.diagonal) for result in results])
    errors = np.array([_flat(result.diagonal_standard_error) for result in results])
    spread = diagonals.std(axis=0)
    assert (np.abs(diagonals.mean(axis=0) - exact) < 4.5 * spread / math.sqrt(num_runs)).all()
    np.testing.assert_allclose((errors**2).mean(axis=0), spread**2, rtol=0.6)


def test_resuming_is_exact_and_parts_merge() -> None:
    whole = _run(range(7))
    resumed = xdiag.run(_run(range(3)), PRODUCT, range(3, 7), KEY, block_size=3)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    merged = merge(_run(range(0, 7, 2)), _run(range(1, 7, 2)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), merged, whole)
    assert whole.num_terms.tolist() == [2, 2, 2, 1]


@pytest.fixture(scope="module")
def trained_hessian() -> np.ndarray:
    """Of the mean of (f - y)^2 / 2 over 32 random samples, after 100 steps of Adam, p = 705.

    8 inputs, three hidden layers of 16 neurons, 1 output, softplus with alpha = 5, float64.
    """
    with jax.enable_x64(True):
        rng, sizes = np.random.default_rng(0), (8, 16, 16, 16, 1)
        x, y = jnp.asarray(rng.normal(size=(32, 8))), jnp.asarray(rng.normal(size=(32, 1)))
        layers = [
            (jnp.asarray(rng.normal(size=(a, b)) / math.sqrt(a)), jnp.zeros(b))
            for a, b in itertools.pairwise(sizes)
        ]
        start, restore = ravel_pytree(layers)

        def loss(flat: jax.Array) -> jax.Array:
            *hidden, (weights, bias) = restore(flat)
            h = x
            for w, b in hidden:
                h = jax.nn.softplus(5 * (h @ w + b)) / 5
            return jnp.mean((h @ weights + bias - y) ** 2) / 2

        optimizer = optax.adam(3e-3)

        def step(_: int, state: tuple) -> tuple:
            flat, moments = state
            updates, moments = optimizer.update(jax.grad(loss)(flat), moments)
            return optax.apply_updates(flat, updates), moments

        @jax.jit
        def hessian(start: jax.Array) -> jax.Array:
            flat, _ = jax.lax.fori_loop(0, 100, step, (start, optimizer.init(start)))
            return jax.hessian(loss)(flat)

        return np.asarray(hessian(start))


def _at_equal_cost(
    hessian: np.ndarray, seed: int, num_products: int, block_size: int
) -> tuple[HessianEstimate, HessianEstimate]:
    """XDiag's estimate and Hutchinson's."""
    product, key = _product_of(hessian), jax.random.key(seed)
    start = init(_tree(jnp.zeros(len(hessian))), num_groups=2)
    blocks = range(num_products // (2 * block_size))
    return (
        estimate(xdiag.run(start, product, blocks, key, block_size=block_size)),
        estimate(run(start, product, range(num_products), key)),
    )


@pytest.mark.parametrize(
    ("num_products", "block_size", "xdiags", "hutchinsons"),
    [(64, 16, 0.08, 0.51), (256, 32, 0.011, 0.25)],
)
def test_diagonal_after_training_is_far_better_than_hutchinsons(
    trained_hessian: np.ndarray,
    num_products: int,
    block_size: int,
    xdiags: float,
    hutchinsons: float,
) -> None:
    """Relative L2 errors at equal cost, within a factor of 2; 2 blocks of 16, and 4 of 32."""
    exact = np.diag(trained_hessian)
    for result, expected in zip(
        _at_equal_cost(trained_hessian, 0, num_products, block_size),
        (xdiags, hutchinsons),
        strict=True,
    ):
        error = np.linalg.norm(_flat(result.diagonal) - exact) / np.linalg.norm(exact)
        assert expected / 2 < error < expected * 2
        assert result.num_products == num_products


def test_metric_after_training_is_far_better_than_hutchinsons(
    trained_hessian: np.ndarray,
) -> None:
    """Relative standard deviation of q at 64 products, 2 blocks: 0.02 and 0.32, within 2 times."""
    exact = np.mean(np.diag(trained_hessian) ** 2)
    pairs = [_at_equal_cost(trained_hessian, seed, 64, 16) for seed in range(30)]
    q = np.array([[result.mean_square.q for result in pair] for pair in pairs]) / exact
    assert 0.01 < q[:, 0].std() < 0.04
    assert 0.16 < q[:, 1].std() < 0.64
    assert (np.abs(q.mean(axis=0) - 1) < 4 * q.std(axis=0) / math.sqrt(30)).all()


def test_memory_is_as_stated() -> None:
    """Arrays alive at any product, beyond those before the block."""
    size, block_size = 100_000, 5
    like = {"w": jnp.zeros(size)}
    scale = jnp.linspace(1, 2, size)
    state, alive = init(like, num_groups=2), []

    def product(vector: dict[str, jax.Array]) -> dict[str, jax.Array]:
        result = {"w": scale * vector["w"]}
        alive.append(sum(array.nbytes for array in jax.live_arrays()))
        return result

    before = sum(array.nbytes for array in jax.live_arrays())
    xdiag.update(state, product, 0, KEY, block_size=block_size)
    stated = (block_size + xdiag.NUM_WORKING_VECTORS) * 8 * size
    assert len(alive) == 2 * block_size
    assert block_size * 8 * size < max(alive) - before <= stated


def test_block_size_from_a_budget() -> None:
    like = {"w": jnp.zeros((10, 10), jnp.float32), "b": jnp.zeros(5, jnp.float32)}
    for num_bytes in (5 * 420, 6 * 420 - 1, 100 * 420):
        size = xdiag.block_size_within(like, num_bytes=num_bytes)
        num_vectors = size + xdiag.NUM_WORKING_VECTORS
        assert 420 * num_vectors <= num_bytes < 420 * (num_vectors + 1)
    with pytest.raises(InputError, match="got 2099 bytes for a block, which needs at least 2100"):
        xdiag.block_size_within(like, num_bytes=2099)


def test_bad_input() -> None:
    start = init(jnp.zeros(3), num_groups=2)
    with pytest.raises(InputError, match="block_size must be at least 1, got 0"):
        xdiag.update(start, lambda v: v, 0, KEY, block_size=0)
    with pytest.raises(InputError, match="a Hessian-vector product is not finite"):
        xdiag.update(start, lambda v: v * jnp.nan, 0, KEY, block_size=2)
