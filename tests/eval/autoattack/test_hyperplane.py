import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, linprog

from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack.hyperplane import to_hyperplane
from rctaf_jax.threat_model import NORMS

names = pytest.mark.parametrize("norm", NORMS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])

Displace = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@functools.cache
def _compiled(norm: str) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(to_hyperplane, norm=norm))


def _displace(norm: str, x: np.ndarray, w: np.ndarray, gap: np.ndarray) -> np.ndarray:
    with jax.enable_x64(x.dtype == np.float64):
        displacement = np.asarray(_compiled(norm)(x, w, gap.astype(x.dtype)))
    assert displacement.dtype == x.dtype
    assert displacement.shape == x.shape
    return displacement


def _cases(num_entries: int, num_cases: int, dtype: type) -> tuple[np.ndarray, ...]:
    """Points with some entries on the box, normals with zeros and equal entries of all scales, and
    gaps of either sign: out of reach for some, zero for some."""
    rng = np.random.default_rng(num_entries)
    shape = (num_cases, num_entries)
    x = rng.random(shape)
    x = np.where(rng.random(shape) < 0.2, np.round(x), x)
    w = rng.normal(size=shape)
    w = np.where(rng.random(shape) < 0.15, 0, w)
    w = np.where(rng.random((num_cases, 1)) < 0.2, np.round(2 * w), w)
    w *= 10.0 ** rng.integers(-6, 7, (num_cases, 1))
    x, w = (array.astype(dtype).astype(np.float64) for array in (x, w))
    share = rng.uniform(-1.3, 1.3, num_cases) * (rng.random(num_cases) > 0.1)
    gap = (share * _reach(x, w, share).sum(axis=1)).astype(dtype)
    return x.astype(dtype), w.astype(dtype), gap


def _room(x: np.ndarray, w: np.ndarray, gap: np.ndarray) -> np.ndarray:
    towards = np.sign(w) * np.sign(gap)[:, None]
    return np.where(towards > 0, x, np.where(towards < 0, 1 - x, 0))


def _reach(x: np.ndarray, w: np.ndarray, gap: np.ndarray) -> np.ndarray:
    return np.abs(w) * _room(x, w, gap)


def _least_length(norm: str, x: np.ndarray, w: np.ndarray, gap: float) -> float:
    """Of a displacement within reach: by linear programming, or bisection on the multiplier."""
    size = len(x)
    if gap == 0:
        return 0.0
    w, gap = w / np.abs(w).max(), gap / np.abs(w).max()
    if norm == "L2":

        def excess(multiplier: float) -> float:
            return w @ np.clip(x - multiplier * np.sign(gap) * w, 0, 1) - w @ x + gap

        limit = 1 / np.abs(w[w != 0]).min()
        ends = excess(0.0), excess(limit)
        multiplier = limit if ends[0] * ends[1] > 0 else brentq(excess, 0, limit, xtol=1e-15)
        return float(np.linalg.norm(np.clip(x - multiplier * np.sign(gap) * w, 0, 1) - x))
    if norm == "L1":
        # d = up - down, both at least 0.
        bounds = [(0, 1 - v) for v in x] + [(0, v) for v in x]
        result = linprog(np.ones(2 * size), A_eq=[[*w, *-w]], b_eq=[-gap], bounds=bounds)
    else:
        below = np.hstack([np.eye(size), -np.ones((size, 1))])
        above = np.hstack([-np.eye(size), -np.ones((size, 1))])
        result = linprog(
            [0.0] * size + [1.0],
            A_ub=np.vstack([below, above]),
            b_ub=np.zeros(2 * size),
            A_eq=[[*w, 0.0]],
            b_eq=[-gap],
            bounds=[(-v, 1 - v) for v in x] + [(0, None)],
        )
    assert result.success
    return result.fun


@names
@pytest.mark.parametrize("num_entries", [1, 2, 7, 20])
def test_shortest_of_all(norm: str, num_entries: int) -> None:
    x, w, gap = _cases(num_entries, 60, np.float64)
    lengths = np.linalg.norm(_displace(norm, x, w, gap), ord=NORMS[norm].order, axis=1)
    in_reach = np.abs(gap) <= _reach(x, w, gap).sum(axis=1) * (1 - 1e-9)
    assert 30 < in_reach.sum() < 60
    expected = [
        _least_length(norm, *case)
        for case in zip(x[in_reach], w[in_reach], gap[in_reach], strict=True)
    ]
    # The solvers stop at about 1e-8.
    np.testing.assert_allclose(lengths[in_reach], expected, rtol=1e-6, atol=1e-7)


@names
@dtypes
@pytest.mark.parametrize("num_entries", [1, 3, 40, 3072])
def test_meets_the_plane_within_the_box(norm: str, dtype: type, num_entries: int) -> None:
    """To rounding, and with all the room where the plane is out of reach; lengths are tested
    through the multiplier, which thousands of cases allow."""
    x, w, gap = _cases(num_entries, 2000 if num_entries < 100 else 100, dtype)
    displacement = _displace(norm, x, w, gap).astype(np.float64)
    precise = [array.astype(np.float64) for array in (x, w, gap)]
    room, reach = _room(*precise), _reach(*precise)
    rounding = float(np.finfo(dtype).eps)
    moved = np.abs(displacement)
    assert (moved <= room * (1 + rounding) + rounding).all()
    assert (displacement * (np.sign(w) * np.sign(gap)[:, None]) <= 0).all()
    assert (displacement[gap == 0] == 0).all()
    assert (displacement[w == 0] == 0).all()
    is_far = np.abs(precise[2]) > reach.sum(axis=1) * (1 + 20 * rounding)
    np.testing.assert_allclose(moved[is_far], room[is_far], rtol=rounding)
    left = precise[2] + (precise[1] * displacement).sum(axis=1)
    scale = reach.sum(axis=1) + np.abs(precise[2])
    is_near = np.abs(precise[2]) < reach.sum(axis=1) * (1 - 20 * rounding)
    assert is_near.sum() > len(x) / 4
    assert (np.abs(left) <= 8 * rounding * scale)[is_near].all()
    _check_shape(norm, moved[is_near], np.abs(precise[1])[is_near], room[is_near], rounding)


def _check_shape(
    norm: str, moved: np.ndarray, weight: np.ndarray, room: np.ndarray, rounding: float
) -> None:
    """What optimality asks of entries that stop short of the box."""
    is_free = moved < room * (1 - 8 * rounding)
    if norm == "L1":
        # None stops short while one of smaller weight moves.
        least_moved = np.where(moved > 0, weight, np.inf).min(axis=1)
        most_free = np.where(is_free, weight, -np.inf).max(axis=1)
        assert (most_free <= least_moved).all()
        return
    speed = weight if norm == "L2" else np.sign(weight)
    multiplier = np.where(speed > 0, moved / np.where(speed > 0, speed, 1), 0)
    largest = np.where(is_free, multiplier, 0).max(axis=1, keepdims=True)
    # All that are free moved by one multiplier, and all others would have gone beyond the box.
    close = multiplier >= largest * (1 - 16 * rounding)
    assert (close | ~is_free).all()
    assert (moved <= largest * speed * (1 + 16 * rounding) + ~is_free.any(axis=1)[:, None]).all()


def test_by_hand() -> None:
    """<w, x> = .7 must fall to .2 with w = (2, -1), where x_1 can fall by .6 and x_2 rise by .9."""
    x, w, gap = np.array([[0.6, 0.1]]), np.array([[2.0, -1.0]]), np.array([0.5])
    expected = {"Linf": [-1 / 6, 1 / 6], "L2": [-0.2, 0.1], "L1": [-0.25, 0.0]}
    for norm, displacement in expected.items():
        np.testing.assert_allclose(_displace(norm, x, w, gap), [displacement], rtol=1e-12)
    # From .05 the first entry meets the box, and the second does the rest.
    x[0, 0] = 0.05
    for norm in NORMS:
        np.testing.assert_allclose(_displace(norm, x, w, gap), [[-0.05, 0.4]], rtol=1e-12)


@names
@dtypes
def test_scale_of_the_normal_does_not_matter(norm: str, dtype: type) -> None:
    x, w, gap = _cases(12, 200, dtype)
    w /= np.maximum(np.abs(w).max(axis=1, keepdims=True), np.finfo(dtype).tiny)
    gap = np.linspace(-1, 1, 200).astype(dtype)
    plain = _displace(norm, x, w, gap)
    # Powers of two, exact; without rescaling their squares over- or underflow.
    for factor in (2.0**-100, 2.0**100):
        scaled = _displace(norm, x, (w * factor).astype(dtype), gap * factor)
        np.testing.assert_array_equal(scaled, plain)


@names
def test_large_weights_without_room_do_not_hide_the_others(norm: str) -> None:
    x, w = np.array([[0.0, 0.5]], np.float32), np.array([[1.0, 1e-25]], np.float32)
    displacement = _displace(norm, x, w, np.array([2e-26]))
    np.testing.assert_allclose(displacement, [[0, -0.2]], rtol=1e-6)


@names
def test_out_of_reach_without_limit(norm: str) -> None:
    x, w = np.array([[0.25, 0.5, 1.0]], np.float32), np.array([[1.0, 0.0, -1.0]], np.float32)
    for sign, expected in ((1, [-0.25, 0, 0]), (-1, [0.75, 0, -1])):
        np.testing.assert_array_equal(_displace(norm, x, w, np.array([sign * np.inf])), [expected])
    np.testing.assert_array_equal(_displace(norm, x, 0 * w, np.array([1.0])), 0 * x)


@names
def test_pixels_and_examples_in_any_order(norm: str) -> None:
    x, w, gap = _cases(24, 30, np.float64)
    w = np.round(w / np.abs(w).max(axis=1, keepdims=True), 1)
    order = np.random.default_rng(1).permutation(24)
    plain = _displace(norm, x, w, gap)
    np.testing.assert_allclose(
        _displace(norm, x[:, order], w[:, order], gap), plain[:, order], atol=1e-15
    )
    np.testing.assert_array_equal(_displace(norm, x[::-1], w[::-1], gap[::-1])[::-1], plain)
    image = [array.reshape(30, 2, 4, 3) for array in (x, w)]
    np.testing.assert_array_equal(_displace(norm, *image, gap).reshape(30, 24), plain)


def test_unknown_norm() -> None:
    with pytest.raises(InputError, match="unknown norm 'L3'"):
        to_hyperplane(jnp.zeros((1, 2)), jnp.ones((1, 2)), jnp.ones(1), norm="L3")


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_fixed_number_of_newton_steps_is_enough(norm, monkeypatch):
    """As accelerators take them, on weights of many sizes and rooms of many."""
    rng = np.random.default_rng(0)
    for spread in (0.5, 2, 4):
        w = np.exp(spread * rng.normal(size=(40, 3072))) * rng.choice([-1, 1], (40, 3072))
        x = np.abs(rng.normal(size=w.shape)).clip(0, 100) * 10 ** rng.uniform(-4, 0, (40, 1))
        w, x = jnp.asarray(w, jnp.float32), jnp.asarray(x.clip(0, 1), jnp.float32)
        reach = jnp.sum(jnp.abs(w) * jnp.where(w > 0, x, 1 - x), axis=1)
        gap = reach * np.exp(rng.uniform(-6, -0.001, 40)).astype(np.float32)
        expected = to_hyperplane(x, w, gap, norm=norm)
        with monkeypatch.context() as patch:
            patch.setattr(jax, "default_backend", lambda: "gpu")
            got = to_hyperplane(x, w, gap, norm=norm)
        np.testing.assert_array_equal(got, expected)
