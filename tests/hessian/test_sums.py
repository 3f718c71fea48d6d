from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import DiagonalSums, estimate, hessian_vector_product, init, merge, run
from rctaf_jax.hessian.sums import add

TERMS = np.random.default_rng(0).normal(size=(11, 5)) + 3
NUM_GROUPS = 3


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _tree(term: np.ndarray) -> dict[str, jax.Array]:
    return {"a": jnp.asarray(term[:4]).reshape(2, 2), "b": jnp.asarray(term[4:])}


def _sums(numbers: range) -> DiagonalSums:
    state = init(_tree(np.zeros(5)), num_groups=NUM_GROUPS)
    for number in numbers:
        state = add(state, number, _tree(TERMS[number]), 2)
    return state


def _expected(numbers: list[int]) -> DiagonalSums:
    groups = [TERMS[[n for n in numbers if n % NUM_GROUPS == g]] for g in range(NUM_GROUPS)]
    deviation = sum(each.var(axis=0) * len(each) for each in groups if len(each))
    return DiagonalSums(
        num_terms=np.array([len(each) for each in groups]),
        num_products=np.array(2 * len(numbers)),
        group_sum=jax.vmap(_tree)(np.array([each.sum(axis=0) for each in groups])),
        group_square={
            "a": np.array([(each[:, :4] ** 2).sum() for each in groups]),
            "b": np.array([(each[:, 4:] ** 2).sum() for each in groups]),
        },
        deviation=_tree(deviation),
    )


def _assert_close(one: DiagonalSums, other: DiagonalSums) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), one, other)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 11])
def test_equals_the_definitions(count: int) -> None:
    _assert_close(_sums(range(count)), _expected(list(range(count))))


def test_any_split_merges_to_the_whole() -> None:
    """Halves, terms dealt to four, and one part that never saw some of the groups."""
    whole = _sums(range(11))
    for parts in (
        [range(0, 5), range(5, 11)],
        [range(rank, 11, 4) for rank in range(4)],
        [range(0, 1), range(1, 11)],
        [range(0), range(11)],
    ):
        merged = _sums(parts[0])
        for part in parts[1:]:
            merged = merge(merged, _sums(part))
        _assert_close(merged, whole)


def test_equal_terms_have_no_deviation() -> None:
    state = init(_tree(np.zeros(5)), num_groups=2)
    for number in range(6):
        state = add(state, number, _tree(np.array([1.0, -2.0, 0.0, 4.0, 0.5])), 1)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(state.deviation))


def test_one_program_for_all_terms() -> None:
    before = add._cache_size()
    _sums(range(5))
    assert add._cache_size() <= before + 1


def test_bad_input() -> None:
    with pytest.raises(InputError, match="num_groups must be at least 2, got 1"):
        init(jnp.zeros(3), num_groups=1)
    with pytest.raises(InputError, match="got 2 and 3 groups"):
        merge(init(jnp.zeros(3), num_groups=2), init(jnp.zeros(3), num_groups=3))
    with pytest.raises(InputError, match="different parameters"):
        merge(init(jnp.zeros(3)), init(jnp.zeros(6)))


def test_parameters_of_16_bits_are_summed_in_32() -> None:
    diagonal = jnp.asarray(TERMS[0], jnp.float32)
    params = jnp.zeros(5, jnp.bfloat16)
    sums = run(
        init(params), lambda v: diagonal * v.astype(jnp.float32), range(20), jax.random.key(0)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(sums[2:])} == {jnp.dtype("float32")}
    found = estimate(sums).mean_square.q
    np.testing.assert_allclose(found, np.mean(np.square(diagonal)), rtol=1e-5)


def test_probes_of_parameters_of_16_bits_can_be_multiplied() -> None:
    params = jnp.ones(3, jnp.bfloat16)

    def product(vector: jax.Array) -> jax.Array:
        return hessian_vector_product(lambda w: jnp.sum(w**3), params, vector)

    sums = run(init(params), product, range(4), jax.random.key(0))
    np.testing.assert_allclose(estimate(sums).diagonal, [6, 6, 6])
