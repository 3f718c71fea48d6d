import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import t as student

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    DiagonalSums,
    HessianEstimate,
    estimate,
    exact_estimate,
    init,
    relative_error,
    rms_from_diagonal,
    run,
    update,
)
from rctaf_jax.hessian.estimates import mean_square
from rctaf_jax.hessian.sums import add

SIZE = 40
NUM_RUNS = 400
Params = dict[str, jax.Array]


def _random_hessian() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(SIZE, SIZE)) * 0.3
    return noise + noise.T + np.diag(rng.uniform(1, 4, SIZE))


HESSIAN = _random_hessian()
MEAN_SQUARE = float(np.mean(np.diag(HESSIAN) ** 2))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _params() -> Params:
    return {"dense": {"kernel": jnp.zeros((6, 5))}, "head": jnp.zeros(10)}


def _product(vector: Params) -> Params:
    parts = [vector["dense"]["kernel"].ravel(), vector["head"]]
    flat = jnp.asarray(HESSIAN) @ jnp.concatenate(parts)
    return {"dense": {"kernel": flat[:30].reshape(6, 5)}, "head": flat[30:]}


def _stream(seed: int, num_probes: int, num_groups: int) -> DiagonalSums:
    start = init(_params(), num_groups=num_groups)
    return run(start, _product, range(num_probes), jax.random.key(seed))


def _many(num_probes: int, num_groups: int) -> list[HessianEstimate]:
    """Independent runs, compiled as one program."""

    @jax.jit
    @jax.vmap
    def one(key: jax.Array) -> DiagonalSums:
        def step(probe: int, state: DiagonalSums) -> DiagonalSums:
            return update(state, _product, probe, key)

        return jax.lax.fori_loop(0, num_probes, step, init(_params(), num_groups=num_groups))

    states = jax.device_get(one(jax.random.split(jax.random.key(1), NUM_RUNS)))
    leaves, structure = jax.tree.flatten(states)
    return [estimate(jax.tree.unflatten(structure, each)) for each in zip(*leaves, strict=True)]


def _direct(probes: np.ndarray) -> float:
    """q as its definition: the mean over all pairs of different probes of <d_m, d_n> / p."""
    pairs = [a @ b for i, a in enumerate(probes) for j, b in enumerate(probes) if i != j]
    return float(np.mean(pairs)) / probes.shape[1]


def _terms(num_probes: int, seed: int = 3) -> np.ndarray:
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (num_probes, SIZE))
    return signs * (signs @ HESSIAN)


def _state_of(terms: np.ndarray, num_groups: int) -> DiagonalSums:
    """Sums with one leaf, filled without the code under test."""
    group = np.arange(len(terms)) % num_groups
    members = [terms[group == g] for g in range(num_groups)]
    return DiagonalSums(
        num_terms=np.array([len(each) for each in members]),
        num_products=np.array(3 * len(terms)),
        group_sum=np.array([each.sum(axis=0) for each in members]),
        group_square=np.array([(each**2).sum() for each in members]),
        deviation=sum(each.var(axis=0) * len(each) for each in members if len(each)),
    )


@pytest.mark.parametrize(("num_probes", "num_groups"), [(2, 2), (5, 2), (9, 4), (3, 16)])
def test_equals_the_definitions(num_probes: int, num_groups: int) -> None:
    terms = _terms(num_probes)
    result = estimate(_state_of(terms, num_groups))
    assert result.num_probes == num_probes
    assert result.num_products == 3 * num_probes
    np.testing.assert_allclose(result.diagonal, terms.mean(axis=0), rtol=1e-12)
    error = terms.std(axis=0, ddof=1) / math.sqrt(num_probes)
    np.testing.assert_allclose(result.diagonal_standard_error, error, rtol=1e-9)
    assert result.mean_square.q == pytest.approx(_direct(terms), rel=1e-12)
    np.testing.assert_equal(mean_square(_state_of(terms, num_groups)), result.mean_square)


@pytest.mark.parametrize(("num_probes", "num_groups"), [(8, 4), (6, 6), (24, 8)])
def test_jackknife_equals_leaving_out_each_group(num_probes: int, num_groups: int) -> None:
    terms = _terms(num_probes)
    group = np.arange(num_probes) % num_groups
    without = np.array([_direct(terms[group != g]) for g in range(num_groups)])
    error = math.sqrt((num_groups - 1) / num_groups * ((without - without.mean()) ** 2).sum())
    result = estimate(_state_of(terms, num_groups)).mean_square
    assert result.standard_error == pytest.approx(error, rel=1e-10)
    half = student.ppf(0.975, num_groups - 1) * error
    assert result.interval == pytest.approx((result.q - half, result.q + half), rel=1e-10)
    assert result.rms == pytest.approx(math.sqrt(result.q))
    assert result.rms_standard_error == pytest.approx(error / (2 * math.sqrt(result.q)))
    assert not result.is_negative


def test_unbiased_and_honest_about_its_error() -> None:
    """Over 400 runs of 16 probes: mean of q, size of its error, coverage of its interval."""
    results = [result.mean_square for result in _many(16, 8)]
    q = np.array([result.q for result in results])
    assert abs(q.mean() - MEAN_SQUARE) < 4 * q.std() / math.sqrt(NUM_RUNS)
    variance = np.array([result.standard_error**2 for result in results])
    assert 0.8 < variance.mean() / q.var() < 1.4
    covered = np.mean([r.interval[0] <= MEAN_SQUARE <= r.interval[1] for r in results])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / NUM_RUNS)
    # The plug-in, for comparison, is off by the off-diagonal part.
    plug_in = np.mean([np.mean(d**2) for d in (_terms(16, seed).mean(0) for seed in range(100))])
    assert plug_in > MEAN_SQUARE + 10 * q.std() / math.sqrt(NUM_RUNS)


def test_entries_are_covered_by_their_standard_errors() -> None:
    result = estimate(_stream(0, 200, 4))
    actual = np.concatenate([result.diagonal["dense"]["kernel"].ravel(), result.diagonal["head"]])
    errors = result.diagonal_standard_error
    error = np.concatenate([errors["dense"]["kernel"].ravel(), errors["head"]])
    score = (actual - np.diag(HESSIAN)) / error
    assert np.abs(score).max() < 4
    assert 0.6 < score.std() < 1.4
    assert result.diagonal["dense"]["kernel"].shape == (6, 5)


def test_standard_errors_survive_float32() -> None:
    """A spread of 1e-4 of the value, as XDiag's terms have: sums of squares would lose it."""
    terms = 1 + 1e-4 * np.random.default_rng(0).normal(size=(64, 5))
    like = jnp.zeros(5, jnp.float32)
    state = init(like, num_groups=4)
    for number, term in enumerate(terms):
        state = add(state, number, jnp.asarray(term, jnp.float32), 1)
    expected = terms.std(axis=0, ddof=1) / 8
    np.testing.assert_allclose(estimate(state).diagonal_standard_error, expected, rtol=1e-2)


def test_layers_add_up() -> None:
    result = estimate(_stream(0, 20, 4))
    assert [(path, row.size) for path, row in result.layers] == [("dense/kernel", 30), ("head", 10)]
    total = sum(row.q * row.size for _, row in result.layers) / SIZE
    assert total == pytest.approx(result.mean_square.q, rel=1e-12)
    assert result.mean_square.size == SIZE
    for (_, row), exact in zip(
        result.layers, (np.diag(HESSIAN)[:30], np.diag(HESSIAN)[30:]), strict=True
    ):
        assert abs(row.q - np.mean(exact**2)) < 5 * row.standard_error


def test_diagonal_hessian_has_no_error() -> None:
    terms = np.tile(np.array([3.0, -4.0, 0.0]), (4, 1))
    result = estimate(_state_of(terms, 2))
    np.testing.assert_array_equal(result.diagonal_standard_error, 0)
    assert result.mean_square.q == pytest.approx(25 / 3)
    assert result.mean_square.standard_error == pytest.approx(0, abs=1e-12)
    assert result.mean_square.rms == pytest.approx(float(rms_from_diagonal(terms[0])))


def test_negative_q_is_reported_and_not_clipped() -> None:
    """Two opposite probes, by hand: q = (0 - 2) / (2 * 1 * 1) = -1."""
    result = estimate(_state_of(np.array([[1.0], [-1.0]]), 2)).mean_square
    assert result.q == -1
    assert result.is_negative
    assert math.isnan(result.rms)
    assert math.isnan(result.rms_standard_error)


def test_two_probes_have_no_standard_error() -> None:
    result = estimate(_state_of(_terms(2), 2)).mean_square
    assert math.isfinite(result.q)
    assert math.isnan(result.standard_error)
    assert all(map(math.isnan, result.interval))


def test_relative_error_of_the_rms() -> None:
    """q = 4 -+ 0.8: rms = 2 -+ 0.2 to first order, a tenth of it."""
    result = estimate(_state_of(_terms(24), 8)).mean_square
    assert relative_error(result._replace(q=4.0, interval=(3.2, 4.8))) == pytest.approx(0.1)
    assert relative_error(result._replace(q=-1.0, interval=(-2.0, 0.0))) == math.inf
    assert relative_error(result._replace(interval=(math.nan, math.nan))) == math.inf


@pytest.mark.parametrize("num_probes", [0, 1])
def test_too_few_probes(num_probes: int) -> None:
    with pytest.raises(InputError, match=f"at least 2 probes, got {num_probes}"):
        estimate(_stream(0, num_probes, 2))


def test_an_exact_array_without_entries() -> None:
    result = exact_estimate({"a": np.zeros((0, 3)), "b": np.array([3.0])}, num_products=1)
    assert result.mean_square.q == 9
    assert [row.q for _, row in result.layers] == [0, 9]


def test_a_summary_is_the_metric():
    result = exact_estimate({"a": jnp.array([3.0, 4.0])}, num_products=2)
    assert result.summary() == (
        "Hessian norm 3.536 +- 0 over 2 parameters, by 2 Hessian-vector products."
    )
    negative = result._replace(mean_square=result.mean_square._replace(q=-0.5, is_negative=True))
    assert "not known yet: q = -0.5 after 2" in negative.summary()
    untold = result.mean_square._replace(rms_standard_error=math.nan)
    assert "+-" not in result._replace(mean_square=untold).summary()
