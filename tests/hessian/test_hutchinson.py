from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    DiagonalSums,
    estimate,
    init,
    make_dataset_product,
    merge,
    run,
    update,
)
from rctaf_jax.hessian.hutchinson import rademacher

KEY = jax.random.key(0)
SIZE = 6
SQUARE = np.random.default_rng(0).normal(size=(SIZE, SIZE))
HESSIAN = SQUARE + SQUARE.T
DIAGONAL = np.diag(HESSIAN)
OFF_DIAGONAL = HESSIAN - np.diag(DIAGONAL)
NUM_RUNS = 4000

Params = dict[str, jax.Array]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _zeros() -> Params:
    return {"a": jnp.zeros((2, 2)), "b": jnp.zeros(2)}


def _product(vector: Params) -> Params:
    flat = jnp.asarray(HESSIAN) @ jnp.concatenate([vector["a"].ravel(), vector["b"]])
    return {"a": flat[:4].reshape(2, 2), "b": flat[4:]}


def _assert_close(one: DiagonalSums, other: DiagonalSums) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), one, other)


def test_diagonal_hessian_is_exact_with_one_probe() -> None:
    diagonal = {"a": jnp.arange(4.0).reshape(2, 2), "b": jnp.array([-1.0, 7.0])}
    state = update(
        init(_zeros(), num_groups=2), lambda v: jax.tree.map(jnp.multiply, diagonal, v), 3, KEY
    )
    assert state.num_terms.tolist() == [0, 1]
    assert state.num_products == 1
    for name, expected in diagonal.items():
        np.testing.assert_array_equal(state.group_sum[name][1], expected)
        np.testing.assert_array_equal(state.group_sum[name][0], 0)
        np.testing.assert_array_equal(state.deviation[name], 0)
        assert state.group_square[name][1] == jnp.sum(expected**2)


def test_signs_are_signs_and_independent() -> None:
    draw = jax.vmap(lambda probe: rademacher(KEY, probe, _zeros()))
    signs = draw(jnp.arange(NUM_RUNS))
    flat = np.concatenate([signs["a"].reshape(NUM_RUNS, 4), signs["b"]], axis=1)
    assert set(flat.ravel()) == {-1.0, 1.0}
    moments = flat.T @ flat / NUM_RUNS - np.eye(SIZE)
    assert np.abs(flat.mean(axis=0)).max() < 4 / np.sqrt(NUM_RUNS)
    assert np.abs(moments).max() < 4 / np.sqrt(NUM_RUNS)
    # The same number of another run, and another number of the same run, are other signs.
    for key, probe in ((jax.random.key(1), 0), (KEY, 1)):
        assert any((rademacher(key, probe, _zeros())[n] != signs[n][0]).any() for n in "ab")


@pytest.mark.parametrize("num_probes", [1, 4])
def test_bias_and_variance_laws(num_probes: int) -> None:
    """Mean, variance of an entry and squared norm of the mean of m probes, over 4,000 runs."""

    def mean_of_probes(key: jax.Array) -> jax.Array:
        state = run(init(_zeros(), num_groups=2), _product, range(num_probes), key)
        total = jax.tree.map(lambda groups: groups.sum(axis=0) / num_probes, state.group_sum)
        return jnp.concatenate([total["a"].ravel(), total["b"]])

    means = np.asarray(jax.vmap(mean_of_probes)(jax.random.split(KEY, NUM_RUNS)))
    variance = (OFF_DIAGONAL**2).sum(axis=1) / num_probes
    for values, expected in (
        (means, DIAGONAL),
        ((means - DIAGONAL) ** 2, variance),
        ((means**2).sum(axis=1), (DIAGONAL**2).sum() + (OFF_DIAGONAL**2).sum() / num_probes),
    ):
        standard_error = values.std(axis=0) / np.sqrt(NUM_RUNS)
        assert (np.abs(values.mean(axis=0) - expected) < 4 * standard_error).all()
    # The plug-in's bias is far outside the noise: the law is seen, not assumed.
    assert (means**2).sum(axis=1).mean() > 1.1 * (DIAGONAL**2).sum()


def test_resuming_is_exact() -> None:
    whole = run(init(_zeros(), num_groups=3), _product, range(7), KEY)
    half = run(init(_zeros(), num_groups=3), _product, range(4), KEY)
    resumed = run(half, _product, range(4, 7), KEY)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert whole.num_terms.tolist() == [3, 2, 2]


def test_dealing_out_and_merging_equals_one_run() -> None:
    whole = run(init(_zeros(), num_groups=3), _product, range(10), KEY)
    dealt = [
        run(init(_zeros(), num_groups=3), _product, range(rank, 10, 4), KEY) for rank in range(4)
    ]
    merged = dealt[0]
    for state in dealt[1:]:
        merged = merge(merged, state)
    _assert_close(merged, whole)
    _assert_close(merge(dealt[0], dealt[1]), merge(dealt[1], dealt[0]))


def test_states_on_several_devices() -> None:
    devices = jax.devices()
    if len(devices) < 2:
        pytest.skip("needs two devices")
    parts = []
    for rank, device in enumerate(devices[:2]):
        start = jax.device_put(init(_zeros(), num_groups=2), device)
        key = jax.device_put(KEY, device)
        parts.append(run(start, _product, range(rank, 6, 2), key))
    merged = merge(*jax.device_get(parts))
    _assert_close(merged, run(init(_zeros(), num_groups=2), _product, range(6), KEY))


def test_batch_split_and_devices_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    images, labels = rng.uniform(size=(20, 2, 1, 1)), rng.integers(0, 3, 20)
    params = {"w": jnp.asarray(rng.normal(size=(2, 3))), "b": jnp.asarray(rng.normal(size=3))}

    def losses(params: Params, rest: tuple, x: jax.Array, labels: jax.Array) -> jax.Array:
        logits = jnp.sin(x.reshape(len(x), 2) @ params["w"]) + params["b"]
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]

    results = []
    for batch_size, devices in (
        (20, None),
        (16, None),
        (16, jax.devices()[:1]),
        (16, jax.devices()),
    ):
        bind = make_dataset_product(losses, batch_size=batch_size, devices=devices)
        product = bind(params, (), images, labels)
        results.append(estimate(run(init(params, num_groups=2), product, range(4), KEY)))
    for other in results[1:]:
        assert other.mean_square.q == pytest.approx(results[0].mean_square.q, rel=1e-13)
        for name in params:
            np.testing.assert_allclose(other.diagonal[name], results[0].diagonal[name], atol=1e-15)


def test_every_probe_of_a_structure_shares_one_program() -> None:
    traced = []

    @jax.jit
    def product(vector: Params) -> Params:
        traced.append("product")
        return _product(vector)

    before = rademacher._cache_size()
    seen: list[tuple[int, int]] = []
    state = run(
        init(_zeros(), num_groups=5),
        product,
        range(6),
        KEY,
        progress=lambda done, total: seen.append((done, total)),
    )
    run(state, product, range(6, 9), jax.random.key(9))
    assert len(traced) == 1
    assert rademacher._cache_size() <= before + 1
    assert seen == [(number, 6) for number in range(1, 7)]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="num_groups must be at least 2, got 1"):
        init(_zeros(), num_groups=1)
    with pytest.raises(InputError, match="got 2 and 3 groups"):
        merge(init(_zeros(), num_groups=2), init(_zeros(), num_groups=3))
    with pytest.raises(InputError, match="different parameters"):
        merge(init(_zeros()), init(jnp.zeros(6)))
