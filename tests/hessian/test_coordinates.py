import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import t as student

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import HessianEstimate, coordinates, relative_error

KEY = jax.random.key(0)
SIZES = (30, 1, 9)
SIZE = sum(SIZES)
HESSIAN = np.random.default_rng(0).normal(size=(SIZE, SIZE))
HESSIAN = HESSIAN + HESSIAN.T
DIAGONALS = np.split(np.diag(HESSIAN), np.cumsum(SIZES)[:-1])
MEAN_SQUARE = float(np.mean(np.diag(HESSIAN) ** 2))
Params = dict[str, jax.Array]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _params() -> Params:
    return {"a": jnp.zeros((6, 5)), "b": jnp.zeros(()), "c": jnp.zeros(9)}


@jax.jit
def _product(vector: Params) -> Params:
    flat = jnp.concatenate([vector[name].ravel() for name in "abc"])
    a, b, c = jnp.split(jnp.asarray(HESSIAN) @ flat, np.cumsum(SIZES)[:-1])
    return {"a": a.reshape(6, 5), "b": b[0], "c": c}


def _run(numbers: range, key: jax.Array = KEY) -> coordinates.CoordinateSums:
    return coordinates.run(coordinates.init(_params()), _product, _params(), numbers, key)


def _simulated(key: jax.Array, count: int) -> HessianEstimate:
    """The estimate from entries that are looked up."""
    state = coordinates.init(_params())
    for array, place in coordinates.draw_parameters(key, _params(), count).tolist():
        state = coordinates._add(state, array, DIAGONALS[array][place])
    return coordinates.estimate(state, _params())


def test_the_order_is_a_permutation_and_keeps_its_beginning() -> None:
    order = coordinates.draw_parameters(KEY, _params(), SIZE)
    assert sorted(map(tuple, order.tolist())) == [
        (array, place) for array, size in enumerate(SIZES) for place in range(size)
    ]
    for count in (0, 1, 5, 17):
        np.testing.assert_array_equal(
            coordinates.draw_parameters(KEY, _params(), count), order[:count]
        )
    assert (coordinates.draw_parameters(jax.random.key(1), _params(), SIZE) != order).any()


def test_two_of_each_array_first_then_by_the_root_of_the_size() -> None:
    order = coordinates.draw_parameters(KEY, {"a": jnp.zeros(900), "b": jnp.zeros(100)}, 200)
    assert order[:4, 0].tolist() == [0, 1, 0, 1]
    shares = np.bincount(order[:, 0])
    assert abs(shares[0] - 3 * shares[1]) <= 6


def test_every_entry_is_as_likely_as_any_other() -> None:
    counts = np.zeros(9)
    for seed in range(600):
        order = coordinates.draw_parameters(jax.random.key(seed), _params(), 12)
        counts[order[order[:, 0] == 2, 1]] += 1
    expected = counts.sum() / 9
    assert np.sum((counts - expected) ** 2 / expected) < 26.1  # chi-square, 8 degrees, 0.1%


def test_equals_the_textbook() -> None:
    """Stratified sampling by hand, from the same entries of the dense matrix."""
    numbers = range(20)
    result = coordinates.estimate(_run(numbers), _params())
    order = coordinates.draw_parameters(KEY, _params(), 20)
    q, variance, degrees = 0.0, 0.0, 0.0
    for array, size in enumerate(SIZES):
        squares = DIAGONALS[array][order[order[:, 0] == array, 1]] ** 2
        n, row = len(squares), result.layers[array][1]
        own = squares.var(ddof=1) / n * (1 - n / size) if n < size else 0.0
        assert row.q == pytest.approx(squares.mean(), rel=1e-12)
        assert row.standard_error == pytest.approx(math.sqrt(own), rel=1e-9)
        half = student.ppf(0.975, max(n - 1, 1)) * math.sqrt(own)
        assert row.interval == pytest.approx((row.q - half, row.q + half), rel=1e-9)
        part = (size / SIZE) ** 2 * own
        q, variance = q + size / SIZE * squares.mean(), variance + part
        degrees += part**2 / max(n - 1, 1)
    assert result.mean_square.q == pytest.approx(q, rel=1e-12)
    assert result.mean_square.standard_error == pytest.approx(math.sqrt(variance), rel=1e-9)
    half = student.ppf(0.975, variance**2 / degrees) * math.sqrt(variance)
    assert result.mean_square.interval == pytest.approx((q - half, q + half), rel=1e-9)
    assert [name for name, _ in result.layers] == ["a", "b", "c"]
    assert (result.num_probes, result.num_products) == (20, 20)
    assert result.diagonal is None
    assert result.diagonal_standard_error is None


def test_all_parameters_are_exact() -> None:
    result = coordinates.estimate(_run(range(SIZE)), _params())
    for (_, row), exact in zip(result.layers, DIAGONALS, strict=True):
        assert row.q == pytest.approx(np.mean(exact**2), rel=1e-12)
        assert row.interval == (row.q, row.q)
    assert result.mean_square.q == pytest.approx(MEAN_SQUARE, rel=1e-12)
    assert result.mean_square.standard_error == 0
    assert relative_error(result.mean_square) == 0


def test_unbiased_and_honest_about_its_error() -> None:
    """Over 600 runs of 20 of the 40 parameters."""
    results = [_simulated(jax.random.key(seed), 20).mean_square for seed in range(600)]
    q = np.array([result.q for result in results])
    assert abs(q.mean() - MEAN_SQUARE) < 4 * q.std() / math.sqrt(600)
    variance = np.array([result.standard_error**2 for result in results])
    assert abs(variance.mean() / q.var() - 1) < 4 * math.sqrt(2 / 600) * 2
    covered = np.mean([r.interval[0] <= MEAN_SQUARE <= r.interval[1] for r in results])
    assert covered > 0.9


def test_resuming_is_exact_and_parts_merge() -> None:
    whole = _run(range(14))
    resumed = coordinates.run(_run(range(6)), _product, _params(), range(6, 14), KEY)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    merged = coordinates.merge(_run(range(0, 14, 2)), _run(range(1, 14, 2)))
    for one, other in zip(merged, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def test_one_of_an_array_gives_a_value_without_an_error() -> None:
    result = coordinates.estimate(_run(range(3)), _params())
    assert result.layers[0][1].q > 0
    assert math.isnan(result.layers[0][1].standard_error)
    assert math.isnan(result.mean_square.standard_error)
    assert result.layers[1][1].standard_error == 0
    assert relative_error(result.mean_square) == math.inf


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"a parameter of each array, got none of \['b', 'c'\]"):
        coordinates.estimate(_run(range(1)), _params())
    with pytest.raises(InputError, match="got 41 parameters to draw: there are only 40"):
        _run(range(41))
    with pytest.raises(InputError, match=r"arrays of \[30, 1, 9\] and \[2\]"):
        coordinates.merge(_run(range(1)), coordinates.init(jnp.zeros(2)))
