import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack.attack import Attack, Examples, Outcome
from rctaf_jax.eval.autoattack.fab import make_fab, make_fab_targeted
from rctaf_jax.threat_model import NORMS

LogitsFn = Callable[[jax.Array], jax.Array]
Gradients = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

DUAL = {"Linf": 1, "L2": 2, "L1": np.inf}
names = pytest.mark.parametrize("norm", NORMS)

RNG = np.random.default_rng(0)
NUM_CLASSES = 4
IMAGES = RNG.uniform(0.3, 0.7, (40, 2, 3, 2)).astype(np.float32)
WEIGHTS, BIAS = RNG.normal(size=(12, NUM_CLASSES)), 0.3 * RNG.normal(size=NUM_CLASSES)
MIXING = RNG.normal(size=(NUM_CLASSES, 12))


def _linear(x: jax.Array) -> jax.Array:
    return (x - 0.5).reshape(len(x), -1) @ WEIGHTS.astype(x.dtype) + BIAS.astype(x.dtype)


def _curved(x: jax.Array) -> jax.Array:
    hidden = jnp.sin(6 * x.reshape(len(x), -1) @ MIXING.T.astype(x.dtype))
    return hidden @ MIXING[:, :NUM_CLASSES].astype(x.dtype)


def _labels(logits_fn: LogitsFn, images: np.ndarray) -> np.ndarray:
    return np.asarray(logits_fn(jnp.asarray(images))).argmax(axis=1)


def _examples(logits_fn: LogitsFn, images: np.ndarray) -> Examples:
    images = jnp.asarray(images)
    keys = jax.random.split(jax.random.key(0), len(images))
    logits = logits_fn(images)
    return Examples(images, jnp.argmax(logits, axis=1), keys, logits)


@functools.cache
def _compiled(attack: Attack, logits_fn: LogitsFn) -> Callable[..., Any]:
    return jax.jit(lambda *rest: attack.step(lambda x, _: logits_fn(x), *rest))


def _states(
    attack: Attack,
    logits_fn: LogitsFn,
    examples: Examples,
    run: int,
    num_steps: int,
    epsilon: float,
) -> list[Any]:
    """The state at the start of a run and after each step."""
    size = len(examples.images)
    states = [attack.start(examples, jnp.full(size, run), epsilon)]
    for k in range(num_steps):
        rest = examples, jnp.full(size, k), epsilon, states[-1]
        states.append(_compiled(attack, logits_fn)(*rest))
    return states


@names
@pytest.mark.parametrize(
    "make",
    [
        lambda norm: make_fab_targeted(norm=norm, num_targets=NUM_CLASSES - 1, num_steps=12),
        lambda norm: make_fab(norm=norm, num_steps=12, num_restarts=2),
    ],
    ids=["fab-t", "fab"],
)
def test_linear_classifier_in_closed_form(
    norm: str, make: Callable[[str], Attack], run_plainly: Callable[..., Outcome]
) -> None:
    """The distance to the decision boundary is min_j |df_j| / ||w_j||_dual."""
    labels = _labels(_linear, IMAGES)
    precise = (IMAGES.astype(np.float64) - 0.5).reshape(40, -1) @ WEIGHTS + BIAS
    distance = np.full(40, np.inf)
    for j in range(NUM_CLASSES):
        normal = WEIGHTS[:, [j]] - WEIGHTS[:, labels]
        length = np.where(j == labels, 1, np.linalg.norm(normal, ord=DUAL[norm], axis=0))
        gap = np.abs(precise[:, j] - precise[np.arange(40), labels])
        distance = np.where(j == labels, distance, np.minimum(distance, gap / length))
    epsilon = float(np.median(distance))
    outcome = run_plainly(make(norm), _linear, IMAGES, labels, epsilon)
    # The overshoot leaves it 0.5 % short of the boundary's distance.
    decided = (distance > epsilon * 1.0001) | (distance < epsilon / 1.02)
    assert decided.sum() >= 35
    np.testing.assert_array_equal(outcome.is_broken[decided], (distance < epsilon)[decided])
    assert not outcome.nonfinite.any()
    is_broken = outcome.is_broken
    assert (_labels(_linear, outcome.adversarial) != labels).tolist() == is_broken.tolist()
    np.testing.assert_array_equal(outcome.adversarial[~is_broken], IMAGES[~is_broken])
    moved = (outcome.adversarial.astype(np.float64) - IMAGES).reshape(40, -1)
    lengths = np.linalg.norm(moved, ord=NORMS[norm].order, axis=1)
    assert (lengths <= epsilon + 1e-6).all()
    assert (lengths >= distance * (1 - 1e-4))[is_broken].all()
    assert 0 <= outcome.adversarial.min() <= outcome.adversarial.max() <= 1


@names
def test_one_step_towards_the_ranked_class(norm: str) -> None:
    """Run r goes 1.05 of the way to the (r + 2)-th ranked class, then back to 0.9 of that."""
    # Close to the boundary, so that the box does not bind.
    examples = _examples(_linear, 0.5 + (IMAGES - 0.5) / 50)
    order = np.argsort(-np.asarray(examples.clean_logits), axis=1)
    everyone = np.arange(40)
    for run in range(NUM_CLASSES - 1):
        attack = make_fab_targeted(norm=norm, num_targets=NUM_CLASSES - 1, num_steps=1)
        first, second = _states(attack, _linear, examples, run, 1, 0.0)
        np.testing.assert_array_equal(first.x, examples.images)

        def gap(x: jax.Array, run: int = run) -> np.ndarray:
            logits = np.asarray(_linear(x))
            return logits[everyone, order[:, run + 1]] - logits[everyone, order[:, 0]]

        ratio = gap(second.x) / gap(first.x)
        is_inside_box = ((second.x > 0) & (second.x < 1)).all(axis=(1, 2, 3))
        assert is_inside_box.sum() > 20
        np.testing.assert_allclose(ratio[is_inside_box], 1 - 1.05 * 0.9, atol=1e-3)


def _curved_gradients(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and the gradient of each, by the chain rule."""
    angle, readout = 6 * MIXING @ x, MIXING[:, :NUM_CLASSES]
    return np.sin(angle) @ readout, (readout.T * np.cos(angle)) @ (6 * MIXING)


def _slow_displacement(norm: str, x: np.ndarray, w: np.ndarray, b: float) -> np.ndarray:
    """By bisection, or greedily; only for planes within reach."""
    if norm == "L1":
        z = x.copy()
        for i in np.argsort(-np.abs(w)):
            z[i] = np.clip(x[i] - (w @ z - b) / w[i], 0, 1)
        return z - x
    direction = -np.sign(w @ x - b) * (np.sign(w) if norm == "Linf" else w)
    low, high = 0.0, 1.0
    while (w @ np.clip(x + high * direction, 0, 1) - b) * (w @ x - b) > 0 and high < 1e6:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if (w @ np.clip(x + middle * direction, 0, 1) - b) * (w @ x - b) > 0:
            low = middle
        else:
            high = middle
    return np.clip(x + low * direction, 0, 1) - x


def _slow_fab(
    norm: str, x0: np.ndarray, label: int, target: int | None, num_steps: int
) -> tuple[np.ndarray, float, int]:
    """One example: the iterates, the least distance of a misclassified one, and their number."""
    x, best, found, path = x0.copy(), np.inf, 0, [x0]
    order = NORMS[norm].order
    for _ in range(num_steps):
        logits, gradients = _curved_gradients(x)
        choices = [j for j in range(NUM_CLASSES) if j != label] if target is None else [target]
        ratios = [
            abs(logits[j] - logits[label])
            / (np.linalg.norm(gradients[j] - gradients[label], ord=DUAL[norm]) + 1e-12)
            for j in choices
        ]
        j = choices[int(np.argmin(ratios))]
        w = gradients[j] - gradients[label]
        b = w @ x - (logits[j] - logits[label])
        d1, d2 = (_slow_displacement(norm, point, w, b) for point in (x, x0))
        a1, a2 = (max(np.linalg.norm(d, ord=order), 1e-8) for d in (d1, d2))
        alpha = min(a1 / (a1 + a2), 0.1)
        x = np.clip((x + 1.05 * d1) * (1 - alpha) + (x0 + 1.05 * d2) * alpha, 0, 1)
        if _curved_gradients(x)[0].argmax() != label:
            found += 1
            best = min(best, np.linalg.norm(x - x0, ord=order))
            x = x0 + 0.9 * (x - x0)
        path.append(x)
    return np.array(path), best, found


@names
@pytest.mark.parametrize("is_targeted", [True, False])
def test_slow_implementation_agrees(norm: str, is_targeted: bool) -> None:
    """Some 20 steps in float64; nothing is within epsilon = 0, so that all steps count."""
    images, num_steps = IMAGES[:6].astype(np.float64), 20
    if is_targeted:
        attack, run = make_fab_targeted(norm=norm, num_targets=2, num_steps=num_steps), 1
    else:
        attack, run = make_fab(norm=norm, num_steps=num_steps), 0
    with jax.enable_x64(True):
        examples = _examples(_curved, images)
        states = _states(attack, _curved, examples, run, num_steps, 0.0)
        paths = np.stack([np.asarray(state.x) for state in states], axis=1)
        assert paths.dtype == np.float64
        assert not states[-1].outcome.is_broken.any()
    ranked = np.argsort(-np.asarray(examples.clean_logits), axis=1)
    total = 0
    for path, image, order in zip(paths, images, ranked, strict=True):
        target = int(order[run + 1]) if is_targeted else None
        slow, best, found = _slow_fab(norm, image.ravel(), int(order[0]), target, num_steps)
        np.testing.assert_allclose(path.reshape(slow.shape), slow, atol=1e-7)
        assert (best > 0) & (best < np.inf) == (found > 0)
        total += found
    # Both kinds of step, with a pull back and without, are among them.
    assert 0 < total < 6 * num_steps


@names
def test_what_is_found_is_what_is_nearest(norm: str) -> None:
    """Broken if epsilon exceeds the least distance of the slow implementation, by 1 % either way;
    of all epsilons one program serves."""
    num_steps, traced = 20, []

    def logits_fn(x: jax.Array) -> jax.Array:
        traced.append(norm)
        return _curved(x)

    examples = _examples(_curved, IMAGES[:4])
    attack = make_fab(norm=norm, num_steps=num_steps)
    step = jax.jit(lambda *rest: attack.step(lambda x, _: logits_fn(x), *rest))
    for i, label in enumerate(np.asarray(examples.labels)):
        image = IMAGES[i].astype(np.float64).ravel()
        _, best, _ = _slow_fab(norm, image, int(label), None, num_steps)
        for factor in (0.99, 1.01):
            epsilon = factor * best
            state = attack.start(examples, jnp.zeros(4, int), epsilon)
            for k in range(num_steps):
                state = step(examples, jnp.full(4, k), epsilon, state)
            # Pulled back images are judged as well: they may be nearer than the slow one's.
            assert state.outcome.is_broken[i] or factor < 1
    assert len(traced) == attack.forward_passes


def test_slots_never_interact() -> None:
    """Examples in different runs and at different steps, in another order, and alone."""
    examples, epsilon = _examples(_curved, IMAGES[:5]), 0.01
    attack = make_fab(norm="L2", num_steps=6)
    step = jax.jit(lambda *rest: attack.step(lambda x, _: _curved(x), *rest))
    plain = [_states(attack, _curved, examples, run, 6, epsilon) for run in range(3)]
    run, k = np.array([2, 0, 1, 0, 2]), np.array([5, 0, 3, 4, 1])

    def gather(slot: int, later: int = 0) -> Any:
        return jax.tree.map(lambda leaf: leaf[slot], plain[run[slot]][k[slot] + later])

    order = np.array([3, 0, 4, 2, 1])
    for slots in (order, order[:1]):
        mixed = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[gather(i) for i in slots])
        part = jax.tree.map(lambda leaf, slots=slots: leaf[slots], examples)
        state = step(part, jnp.asarray(k[slots]), epsilon, mixed)
        for position, slot in enumerate(slots):
            expected = gather(slot, 1)
            np.testing.assert_allclose(state.x[position], expected.x, atol=1e-6)
            assert state.run[position] == run[slot]
            assert state.outcome.is_broken[position] == expected.outcome.is_broken


@names
def test_random_starts(norm: str) -> None:
    examples, epsilon = _examples(_curved, IMAGES[:5]), 0.2
    start = jax.jit(make_fab(norm=norm).start)
    clean, first, second = (start(examples, jnp.full(5, run), epsilon) for run in range(3))
    np.testing.assert_array_equal(clean.x, examples.images)
    moved = np.asarray(first.x - examples.images, np.float64).reshape(5, -1)
    np.testing.assert_allclose(np.linalg.norm(moved, ord=NORMS[norm].order, axis=1), 0.1, rtol=1e-5)
    assert len(np.unique(np.sign(moved), axis=0)) == 5
    assert np.abs(second.x - first.x).max(axis=(1, 2, 3)).min() > 1e-3
    for reached in (0, 1):
        at_corner = examples._replace(images=jnp.full_like(examples.images, reached))
        x = start(at_corner, jnp.ones(5, int), epsilon).x
        assert 0 <= x.min() < x.max() <= 1


def test_every_pass_has_its_own_key() -> None:
    examples, seen = _examples(_curved, IMAGES[:2]), []

    def predict(x: jax.Array, keys: jax.Array) -> jax.Array:
        jax.debug.callback(lambda data: seen.append(np.asarray(data)), jax.random.key_data(keys))
        return _curved(x)

    attack = make_fab_targeted(norm="Linf", num_targets=2)
    step = jax.jit(lambda *rest: attack.step(predict, *rest))
    for run in range(2):
        state = attack.start(examples, jnp.full(2, run), 0.1)
        for k in range(2):
            state = step(examples, jnp.full(2, k), 0.1, state)
    jax.effects_barrier()
    assert len(seen) == 4 * attack.forward_passes
    keys = np.concatenate(seen)
    assert len(np.unique(keys, axis=0)) == len(keys) == 16


of_two_classes = pytest.mark.parametrize(
    "attack",
    [make_fab_targeted(norm="Linf", num_targets=1), make_fab(norm="L2"), make_fab(norm="L1")],
    ids=lambda attack: attack.norm,
)


def _one_pixel(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x[:, 0, 0] - 0.5, 0.5 - x[:, 0, 0]], axis=1)


@of_two_classes
def test_one_pixel_of_one_example(attack: Attack) -> None:
    """From 0.3 to the boundary at 0.5."""
    examples = _examples(_one_pixel, np.full((1, 1, 1, 1), 0.3, np.float32))
    for epsilon, is_broken in ((0.21, True), (0.199, False)):
        outcome = _states(attack, _one_pixel, examples, 0, 4, epsilon)[-1].outcome
        assert outcome.is_broken.tolist() == [is_broken]
        low, high = (0.5, 0.51) if is_broken else (0.3, 0.3)
        assert low - 1e-6 <= outcome.adversarial.item() <= high + 1e-6


def _steep(x: jax.Array) -> jax.Array:
    """Finite logits with a gradient that is NaN where the first pixel is 0.5."""
    first = x[:, 0, 0, :1]
    return jnp.concatenate([1 + jnp.sqrt(jnp.abs(first - 0.5)), 0 * first], axis=1)


def _flat(x: jax.Array) -> jax.Array:
    return jnp.ones((len(x), 2)) * jnp.array([1.0, 0.0]) + 0 * x.sum(axis=(1, 2, 3))[:, None]


def _huge(x: jax.Array) -> jax.Array:
    first = 1e30 * x[:, 0, 0, :1]
    return jnp.concatenate([1e30 + first, -1e8 * first], axis=1)


def _nan_off_centre(x: jax.Array) -> jax.Array:
    first = x[:, 0, 0, :1]
    logits = jnp.concatenate([first, 0.4 + 0 * first], axis=1)
    return jnp.where(first < 0.45, jnp.nan, logits)


@of_two_classes
def test_useless_answers_do_no_harm(attack: Attack) -> None:
    image = np.full((1, 2, 1, 1), 0.5, np.float32)
    for logits_fn in (_steep, _flat, _huge):
        state = _states(attack, logits_fn, _examples(logits_fn, image), 0, 3, 0.1)[-1]
        assert np.isfinite(state.x).all()
        assert 0 <= state.x.min() <= state.x.max() <= 1
        assert not state.outcome.is_broken.any()
        assert not state.outcome.nonfinite.any()
        if logits_fn is not _huge:
            np.testing.assert_array_equal(state.x, image)
    examples = _examples(_nan_off_centre, image)
    for epsilon, is_nonfinite in ((0.2, True), (0.05, False)):
        state = _states(attack, _nan_off_centre, examples, 0, 5, epsilon)[-1]
        assert np.isfinite(state.x).all()
        assert state.outcome.nonfinite.tolist() == [is_nonfinite]
        there = _nan_off_centre(state.outcome.adversarial)
        assert np.isnan(there).any() == is_nonfinite


@names
def test_logits_may_be_wider_than_the_images(norm: str) -> None:
    with jax.enable_x64(True):
        examples = _examples(_curved, IMAGES)
        attack = make_fab(norm=norm)
        states = _states(
            attack, lambda x: _curved(x.astype(jnp.float64)), examples, 1, 2, np.float32(0.1)
        )
    assert states[-1].x.dtype == jnp.float32


def test_bad_settings() -> None:
    for make, change, message in (
        (make_fab, {"norm": "L7"}, "unknown norm 'L7'"),
        (make_fab, {"num_restarts": 0}, "num_restarts must be at least 1, got 0"),
        (make_fab, {"num_steps": 0}, "num_steps must be at least 1, got 0"),
        (make_fab_targeted, {"norm": "L7"}, "unknown norm 'L7'"),
        (make_fab_targeted, {"num_targets": -1}, "num_targets must be at least 1, got -1"),
        (make_fab_targeted, {"num_steps": 0}, "num_steps must be at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            make(**({"norm": "Linf"} | change))
    attack = make_fab_targeted(norm="Linf", num_targets=NUM_CLASSES)
    with pytest.raises(InputError, match="4 targets needs at least 5 classes, got 4"):
        attack.start(_examples(_linear, IMAGES), jnp.zeros(40, int), 0.1)


def test_breaks_what_the_original_breaks(small_cnn: Callable[..., Any]) -> None:
    """Ten steps towards one class find most of what nine times a hundred find, and nothing else."""
    network, values = small_cnn()
    examples = _examples(network, (values["images_uint8"] / 255).astype(np.float32))
    attack = make_fab_targeted(norm="Linf")
    outcome = _states(attack, network, examples, 0, 10, 8 / 255)[-1].outcome
    is_broken, officially = np.asarray(outcome.is_broken), ~values["Linf/fab-t/robust"]
    assert not (is_broken & ~officially).any()
    assert is_broken.sum() >= 0.75 * officially.sum() > 6
