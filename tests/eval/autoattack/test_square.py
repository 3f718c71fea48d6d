import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack.attack import Attack, Examples, Outcome
from rctaf_jax.eval.autoattack.square import SquareState, make_square
from rctaf_jax.eval.autoattack.square_tiles import centred_tiles, placed, tile, tiling
from rctaf_jax.eval.autoattack.square_windows import (
    corner_of,
    odd_sides,
    uniform_of,
    window_mask,
    window_sides,
)

EPSILON = {"Linf": 0.1, "L2": 0.5, "L1": 2.0}
ORDER = {"Linf": np.inf, "L2": 2, "L1": 1}
DUAL = {"Linf": 1, "L2": 2, "L1": np.inf}
norms = pytest.mark.parametrize("norm", ORDER)
tile_norms = pytest.mark.parametrize("norm", ["L2", "L1"])

RunPlainly = Callable[..., Outcome]
Network = Callable[[jax.Array], jax.Array]


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[str]:
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def _examples(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Examples:
    """Pixels on and near the sides of the box among them."""
    images = np.clip(np.random.default_rng(seed).uniform(-0.3, 1.3, shape), 0, 1)
    num = shape[0]
    keys = jax.random.split(jax.random.key(seed), num)
    logits = jnp.tile(jnp.array([1.0, 0.0], dtype), (num, 1))
    return Examples(jnp.asarray(images, dtype), jnp.zeros(num, int), keys, logits)


def _start(attack: Attack, examples: Examples, epsilon: float) -> SquareState:
    return jax.jit(attack.start)(examples, jnp.zeros(len(examples.labels), int), epsilon)


def _answers(margin: jax.Array) -> Callable[..., jax.Array]:
    """A network that finds every image this far misclassified, whatever it shows."""
    return lambda x, keys: jnp.stack([-margin, jnp.zeros_like(margin)], axis=1)


def _distance(x: np.ndarray, images: np.ndarray, norm: str) -> np.ndarray:
    difference = np.asarray(x, np.float64) - np.asarray(images, np.float64)
    return np.linalg.norm(difference.reshape(*difference.shape[:-3], -1), ORDER[norm], axis=-1)


# --- the schedule and the windows ---


def test_sides_on_cifar10() -> None:
    last = {29: 10, 20: 50, 14: 200, 10: 500, 7: 1000, 5: 2000, 4: 4000, 3: 4999}
    sides = window_sides(5000, 0.8, 32, 32)
    expected = [next(side for side in last if k <= last[side]) for k in range(5000)]
    np.testing.assert_array_equal(sides, expected)
    np.testing.assert_array_equal(
        odd_sides(np.array([*last]), 32, 32), [29, 21, 15, 11, 7, 5, 5, 3]
    )


def test_other_numbers_of_queries_stretch_the_schedule() -> None:
    full = window_sides(5000, 0.8, 32, 32)
    np.testing.assert_array_equal(window_sides(500, 0.8, 32, 32), full[::10])
    np.testing.assert_array_equal(window_sides(10000, 0.8, 32, 32), np.repeat(full, 2))
    np.testing.assert_array_equal(window_sides(1, 0.8, 32, 32), [29])


def test_sides_stay_inside_the_image() -> None:
    assert window_sides(100, 1.0, 4, 40).max() == 4
    assert window_sides(100, 0.8, 1, 1).tolist() == [1] * 100
    for height, width, expected in ((1, 1, 1), (2, 5, 1), (3, 9, 3), (4, 4, 3), (5, 6, 5)):
        assert odd_sides(np.arange(1, 50), height, width).max() == expected


def test_corners_reach_all_places() -> None:
    just_below_one = np.nextafter(np.float32(1), np.float32(0))
    grid = np.linspace(0, just_below_one, 50, dtype=np.float32)
    uniform = jnp.stack([grid, grid[::-1]], axis=1)
    for side, rows, columns in ((1, 8, 5), (3, 6, 3), (5, 4, 1), (4, 5, 2)):
        corner = np.asarray(corner_of(uniform, jnp.full(50, side), 8, 5))
        assert sorted(set(corner[:, 0].tolist())) == list(range(rows))
        assert sorted(set(corner[:, 1].tolist())) == list(range(columns))


def test_window_and_tile_lie_at_the_corner() -> None:
    corner, side, number = jnp.array([[0, 1], [4, 2], [3, 0]]), jnp.array([3, 1, 5]), [0, 3, 5]
    centred = jnp.asarray(centred_tiles([3, 1, 5], 8, 6, norm="L2"))
    mask = np.asarray(window_mask(corner, side, 8, 6))[..., 0]
    canvas = np.asarray(placed(centred, jnp.array(number), corner))[..., 0]
    for i, ((top, left), s) in enumerate(zip(corner.tolist(), side.tolist(), strict=True)):
        expected = np.zeros((8, 6))
        expected[top : top + s, left : left + s] = 1
        np.testing.assert_array_equal(mask[i], expected)
        pattern = tile(s, norm="L2")
        expected[top : top + s, left : left + s] = pattern.T if number[i] % 2 else pattern
        np.testing.assert_allclose(canvas[i], expected, atol=1e-7)


# --- tiles ---


def _slow_tile(side: int, norm: str) -> np.ndarray:
    """Halves made of nested boxes around their centres, one added after the other."""
    order, decay = (2, 2) if norm == "L2" else (1, 4)
    whole = np.zeros((side, side))
    for sign, top, bottom in ((1, 0, side // 2), (-1, side // 2, side)):
        height = bottom - top
        half = np.zeros((height, side))
        for k in range(max(height, side) // 2 + 1):
            for i in range(height):
                for j in range(side):
                    if abs(i - height // 2) <= k and abs(j - side // 2) <= k:
                        half[i, j] += 1 / (k + 1) ** decay
        if half.size:
            whole[top:bottom] = sign * half / np.linalg.norm(half.ravel(), order)
    return whole / np.linalg.norm(whole.ravel(), order)


@tile_norms
@pytest.mark.parametrize("side", [1, 2, 3, 6, 7, 12])
def test_tile(side: int, norm: str) -> None:
    pattern, order = tile(side, norm=norm), ORDER[norm]
    np.testing.assert_allclose(pattern, _slow_tile(side, norm), atol=1e-12)
    assert np.linalg.norm(pattern.ravel(), order) == pytest.approx(1)
    upper, lower = pattern[: side // 2], pattern[side // 2 :]
    assert (upper > 0).all()
    assert (lower < 0).all()
    if side > 1:
        lengths = [np.linalg.norm(half.ravel(), order) for half in (upper, lower)]
        assert lengths[0] == pytest.approx(lengths[1])
    centre = np.unravel_index(np.argmin(pattern), pattern.shape)
    assert centre == (side // 2 + (side - side // 2) // 2, side // 2)


def test_tiling_is_a_grid_of_signed_tiles() -> None:
    pattern = tile(3, norm="L1")
    uniform = np.random.default_rng(0).uniform(size=(2, 4, 2, 3))
    grid = np.asarray(tiling(jnp.asarray(uniform), pattern))
    assert grid.shape == (2, 12, 6, 2)
    for b, r, c, channel in np.ndindex(2, 4, 2, 2):
        turned = pattern.T if uniform[b, r, c, 0] > 0.5 else pattern
        sign = -1 if uniform[b, r, c, 1 + channel] < 0.5 else 1
        part = grid[b, 3 * r : 3 * r + 3, 3 * c : 3 * c + 3, channel]
        np.testing.assert_allclose(part, sign * turned, atol=1e-7)


# --- proposals, against a slow one written with loops ---


def _into_threat_model(
    delta: np.ndarray, image: np.ndarray, norm: str, epsilon: float
) -> np.ndarray:
    if norm == "Linf":
        return np.clip(image + np.clip(delta, -epsilon, epsilon), 0, 1)
    if norm == "L2":
        return np.clip(image + delta * min(1, epsilon / np.linalg.norm(delta)), 0, 1)
    low, high = 0.0, np.abs(delta).max()
    for _ in range(100):
        middle = (low + high) / 2
        shrunk = np.sign(delta) * np.maximum(np.abs(delta) - middle, 0)
        moved = np.clip(image + shrunk, 0, 1)
        low, high = (middle, high) if np.abs(moved - image).sum() > epsilon else (low, middle)
    return moved


def _slow_start(uniform: np.ndarray, image: np.ndarray, norm: str, epsilon: float) -> np.ndarray:
    delta = np.zeros_like(image)
    height, width, channels = image.shape
    if norm == "Linf":
        for j, c in np.ndindex(width, channels):
            delta[:, j, c] = -epsilon if uniform[0, j, c] < 0.5 else epsilon
        return _into_threat_model(delta, image, norm, epsilon)
    side = min(height, width) // 5
    above, before = height % side // 2, width % side // 2
    for r, q, c in np.ndindex(height // side, width // side, channels):
        pattern = _slow_tile(side, norm)
        turned = pattern.T if uniform[r, q, 0] > 0.5 else pattern
        top, left = above + r * side, before + q * side
        sign = -1 if uniform[r, q, 1 + c] < 0.5 else 1
        delta[top : top + side, left : left + side, c] = sign * turned
    return _into_threat_model(delta, image, norm, epsilon)


def _slow_proposal(
    uniform: np.ndarray, x: np.ndarray, image: np.ndarray, side: int, norm: str, epsilon: float
) -> np.ndarray:
    height, width, channels = image.shape
    room = np.array([height - side, width - side]) + 1
    top, left = np.floor(uniform[:2] * room).astype(int)
    first = np.s_[top : top + side, left : left + side]
    d = x - image
    if norm == "Linf":
        for c in range(channels):
            d[(*first, c)] += -2 * epsilon if uniform[2 + c] < 0.5 else 2 * epsilon
        return _into_threat_model(d, image, norm, epsilon)
    top, left = np.floor(uniform[2:4] * room).astype(int)
    second = np.s_[top : top + side, left : left + side]
    is_either = np.zeros((height, width), bool)
    is_either[first] = is_either[second] = True
    pattern, new, p = _slow_tile(side, norm), d.copy(), ORDER[norm]
    pattern = pattern.T if uniform[4] > 0.5 else pattern
    slack = max(epsilon**p - (np.abs(d) ** p).sum(), 0)
    new[second] = 0
    for c in range(channels):
        old = d[(*first, c)] / (np.linalg.norm(d[(*first, c)].ravel(), p) + 1e-12)
        v = old + pattern * (-1 if uniform[5 + c] < 0.5 else 1)
        if norm == "L2":
            budget = np.sqrt(slack / channels + (d[is_either, c] ** 2).sum())
        else:
            budget = slack + channels * np.abs(d[is_either, c]).sum()
        new[(*first, c)] = budget * v / np.linalg.norm(v.ravel(), p)
    return _into_threat_model(new, image, norm, epsilon)


@functools.partial(jax.jit, static_argnums=2)
def _draws(keys: jax.Array, k: int, shape: tuple[int, ...]) -> jax.Array:
    fold = jax.vmap(jax.random.fold_in, (0, None))
    return uniform_of(jax.vmap(jax.random.split)(fold(fold(keys, 0), k))[:, 0], shape)


@norms
def test_start_and_steps_by_the_slow_way(norm: str) -> None:
    """Every proposal is accepted here, so the state shows them; step 0 asks about the start."""
    shape = num, height, width, channels = 4, 16, 11, 3
    num_queries, epsilon = 40, EPSILON[norm]
    grid = [extent // (min(height, width) // 5) for extent in (height, width)]
    first_draws = (1, width, channels) if norm == "Linf" else (*grid, 1 + channels)
    num_draws = (2 if norm == "Linf" else 5) + channels
    sides = window_sides(num_queries, 0.8, height, width)
    sides = sides if norm == "Linf" else odd_sides(sides, height, width)
    with jax.enable_x64(True):
        examples = _examples(shape, "float64")
        attack = make_square(norm=norm, num_queries=num_queries)
        state, images = _start(attack, examples, epsilon), np.asarray(examples.images)
        pairs = zip(np.asarray(_draws(examples.keys, 0, first_draws)), images, strict=True)
        expected = [_slow_start(*pair, norm, epsilon) for pair in pairs]
        np.testing.assert_allclose(state.x, expected, atol=1e-9)
        step = jax.jit(lambda k, s: attack.step(_answers(k - 1e3), examples, k, epsilon, s))
        for k in range(num_queries):
            before, draws = np.asarray(state.x), np.asarray(_draws(examples.keys, k, (num_draws,)))
            state = step(jnp.full(num, k), state)
            expected = [
                _slow_proposal(*trio, sides[k], norm, epsilon) if k else trio[1]
                for trio in zip(draws.astype(np.float64), before, images, strict=True)
            ]
            np.testing.assert_allclose(state.x, expected, atol=1e-9)


@norms
def test_every_proposal_is_allowed(norm: str, dtype: str) -> None:
    epsilon, num_queries = EPSILON[norm], 300
    shapes = [(6, 11, 14, 3), (2, 2, 3, 1)] if dtype == "float32" else [(3, 8, 5, 1)]
    for shape in shapes:
        examples = _examples(shape, dtype)
        attack = make_square(norm=norm, num_queries=num_queries)

        def step(
            state: SquareState, k: jax.Array, attack: Attack = attack, examples: Examples = examples
        ) -> tuple[SquareState, jax.Array]:
            number = jnp.full(len(examples.labels), k)
            margin = (number - 1000).astype(dtype)
            state = attack.step(_answers(margin), examples, number, epsilon, state)
            return state, state.x

        run = jax.jit(functools.partial(jax.lax.scan, step))
        proposals = np.asarray(run(_start(attack, examples, epsilon), jnp.arange(num_queries))[1])
        assert proposals.dtype == dtype
        assert 0 <= proposals.min() <= proposals.max() <= 1
        distance = _distance(proposals, examples.images, norm)
        assert distance.max() <= epsilon + 1e-6
        assert (distance.max(axis=0) > 0.99 * epsilon).mean() >= 0.5


# --- what a step does with the answer ---


def test_a_proposal_is_taken_if_better_or_misclassified() -> None:
    """margins of max - label: a higher one is taken, an equal one is not, from 0 on any is."""
    attack, examples = make_square(norm="Linf", num_queries=100), _examples((7, 5, 5, 3))
    images = examples.images
    nowhere = Outcome(images, jnp.zeros(7, bool), jnp.zeros(7, bool))
    before = jnp.array([-2.0, -2.0, -2.0, -2.0, 3.0, -2.0, -jnp.inf])
    after = jnp.array([-1.0, -2.0, -3.0, 0.0, 1.0, jnp.nan, -5.0])
    state = SquareState(images, before, jnp.zeros(7, int), nowhere)
    step = jax.jit(lambda k, state: attack.step(_answers(after), examples, k, 0.1, state))
    state = step(jnp.full(7, 1), state)
    is_moved = (np.asarray(state.x) != np.asarray(images)).any(axis=(1, 2, 3))
    assert is_moved.tolist() == [True, False, False, True, True, False, True]
    assert state.margin.tolist() == [-1.0, -2.0, -2.0, 0.0, 3.0, -2.0, -5.0]
    # A tie goes to the lower class, which is the label here.
    assert state.outcome.is_broken.tolist() == [False] * 4 + [True, False, False]
    assert state.outcome.nonfinite.tolist() == [False] * 5 + [True, False]
    np.testing.assert_array_equal(state.outcome.adversarial[4], state.x[4])


# --- the batch ---


def _curved(x: jax.Array) -> jax.Array:
    weights = np.random.default_rng(3).normal(size=(x[0].size, 3)).astype(x.dtype)
    return jnp.sin(5 * x.reshape(len(x), -1)) @ weights


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
@pytest.mark.parametrize("norm", ["Linf", "L1"])
def test_an_example_does_not_depend_on_the_others(norm: str, dtype: str) -> None:
    """Alone or among others that are at other steps and in another order.

    In float64, since a network rounds in its own way in each size of batch, and Square asks which
    of two margins is smaller.
    """
    attack, examples = make_square(norm=norm, num_queries=60), _examples((5, 6, 7, 3), dtype)
    clean = _curved(examples.images)
    examples = examples._replace(labels=jnp.argmax(clean, axis=1), clean_logits=clean)
    order = jnp.array([3, 0, 4, 2, 1])
    step = jax.jit(lambda *rest: attack.step(lambda x, _: _curved(x), *rest))
    epsilon = EPSILON[norm] / 4

    together = jax.tree.map(lambda leaf: leaf[order], examples)
    state, ahead = _start(attack, together, epsilon), jnp.array([0, 7, 3, 0, 11])
    for k in range(-11, 40):
        number = k + ahead
        new = step(together, jnp.maximum(number, 0), epsilon, state)
        state = jax.tree.map(
            lambda a, b, on=number >= 0: jnp.where(on.reshape(-1, *[1] * (a.ndim - 1)), a, b),
            new,
            state,
        )
    for slot, i in enumerate(order.tolist()):
        alone = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], examples)
        single = _start(attack, alone, epsilon)
        for k in range(40 + int(ahead[slot])):
            single = step(alone, jnp.array([k]), epsilon, single)
        np.testing.assert_allclose(state.x[slot], single.x[0], atol=1e-6)
        np.testing.assert_array_equal(state.outcome.is_broken[slot], single.outcome.is_broken[0])
    assert np.ptp(np.asarray(state.margin)) > 0.1


@norms
def test_one_program_for_all_steps_and_budgets(norm: str) -> None:
    attack, examples, traced = make_square(norm=norm, num_queries=50), _examples((2, 9, 8, 3)), []

    def predict(x: jax.Array, keys: jax.Array) -> jax.Array:
        traced.append(norm)
        return examples.clean_logits + x[:, 0, 0, :2]

    step = jax.jit(functools.partial(attack.step, predict))
    for epsilon in (0.0, 0.05, 0.5):
        state = _start(attack, examples, epsilon)
        for k in (0, 1, 20, 49):
            state = step(examples, jnp.full(2, k), epsilon, state)
        assert _distance(state.x, examples.images, norm).max() <= epsilon + 1e-6
    assert len(traced) == 1


def test_examples_runs_and_steps_draw_differently() -> None:
    attack, examples = make_square(norm="L2", num_queries=50), _examples((2, 9, 9, 3))
    examples = examples._replace(images=jnp.full((2, 9, 9, 3), 0.5))
    start = jax.jit(attack.start)
    states = [start(examples, jnp.full(2, run), 0.5) for run in (0, 1)]
    answer = _answers(jnp.full(2, -1.0))
    step = jax.jit(lambda k, state: attack.step(answer, examples, k, 0.5, state))
    # The second run's steps begin where the first's do, so that only draws can tell them apart.
    states += [step(jnp.full(2, k), states[0]) for k in (40, 41)]
    states.append(step(jnp.full(2, 40), states[0]._replace(run=states[1].run)))
    images = np.concatenate([state.x for state in states])
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10


# --- what it breaks ---


def _staircase(weights: np.ndarray, x: jax.Array) -> jax.Array:
    score = jnp.round(500 * ((x - 0.5).reshape(len(x), -1) @ weights)) / 500
    return jnp.stack([-score, score], axis=1)


@norms
def test_a_network_without_gradient_is_broken(norm: str, run_plainly: RunPlainly) -> None:
    """Quantised linear logits: what is well inside the reach of epsilon falls, what is out not."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=5 * 5 * 3).astype(np.float32)
    images = rng.uniform(0.45, 0.55, (80, 5, 5, 3)).astype(np.float32)
    network = functools.partial(_staircase, weights)
    assert not np.asarray(jax.grad(lambda x: network(x)[:, 1].sum())(jnp.asarray(images))).any()
    score = (images.astype(np.float64) - 0.5).reshape(80, -1) @ weights
    labels, size = (score > 0).astype(int), np.abs(score)
    reach = np.median(size)
    epsilon = reach / np.linalg.norm(weights, DUAL[norm])
    outcome = run_plainly(make_square(norm=norm, num_queries=300), network, images, labels, epsilon)
    # Half a stair, 1 / 1000, is what rounding adds to a score or takes from it.
    is_out, is_well_in = size > reach + 2e-3, (size > 2e-3) & (size < 0.4 * reach)
    assert min(is_out.sum(), is_well_in.sum()) > 10
    assert not outcome.is_broken[is_out].any()
    assert outcome.is_broken[is_well_in].mean() > 0.8
    again = np.asarray(network(jnp.asarray(outcome.adversarial))).argmax(axis=1)
    np.testing.assert_array_equal((again != labels)[size > 2e-3], outcome.is_broken[size > 2e-3])
    assert _distance(outcome.adversarial, images, norm).max() <= epsilon + 1e-6


@norms
def test_a_single_grey_pixel(norm: str, run_plainly: RunPlainly) -> None:
    """All norms are one here, and an image is broken if and only if 0.5 is within reach."""
    pixels = np.array([0.1, 0.35, 0.45, 0.55, 0.65, 0.97], np.float32)
    images, labels = pixels.reshape(6, 1, 1, 1), (pixels > 0.5).astype(int)
    network = functools.partial(_staircase, np.ones(1, np.float32))
    attack = make_square(norm=norm, num_queries=60)
    outcome = run_plainly(attack, network, images, labels, 0.1)
    assert outcome.is_broken.tolist() == [False, False, True, True, False, False]


def test_logits_that_are_not_finite_are_neither(run_plainly: RunPlainly) -> None:
    """The middle one of three grey images is met with NaN everywhere in its ball."""
    images = np.ones((3, 6, 6, 1), np.float32) * np.reshape([0.2, 0.5, 0.8], (3, 1, 1, 1))

    def network(x: jax.Array) -> jax.Array:
        is_middle = jnp.abs(x.mean(axis=(1, 2, 3)) - 0.5) < 0.15
        return jnp.where(is_middle[:, None], jnp.nan, jnp.array([1.0, 0.0]))

    attack = make_square(norm="L2", num_queries=20)
    outcome = run_plainly(attack, network, images, np.zeros(3), 0.5)
    assert outcome.nonfinite.tolist() == [False, True, False]
    assert not outcome.is_broken.any()
    assert np.isnan(network(outcome.adversarial)).any(axis=1).tolist() == [False, True, False]


def test_bad_settings() -> None:
    for change, message in (
        ({"norm": "L7"}, "unknown norm 'L7': choose one of Linf, L2, L1"),
        ({"num_queries": 0}, "num_queries must be at least 1, got 0"),
        ({"initial_fraction": 0.0}, r"initial_fraction must be in \(0, 1\], got 0.0"),
        ({"initial_fraction": float("nan")}, "initial_fraction must be in"),
    ):
        with pytest.raises(InputError, match=message):
            make_square(**({"norm": "Linf"} | change))
