import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack import apgd, apgd_l1
from rctaf_jax.eval.autoattack.apgd import make_apgd, make_apgd_targeted
from rctaf_jax.eval.autoattack.attack import Attack, Examples, Outcome
from rctaf_jax.threat_model import NORMS, is_inside, project

EPSILONS = {"Linf": 0.1, "L2": 0.2, "L1": 0.4}
DUALS = {"Linf": 1, "L2": 2, "L1": np.inf}
MAKERS = {
    "ce": lambda norm, **settings: make_apgd(norm=norm, loss="ce", **settings),
    "dlr": lambda norm, **settings: make_apgd(norm=norm, loss="dlr", **settings),
    "targeted": lambda norm, **settings: make_apgd_targeted(norm=norm, num_targets=3, **settings),
}
names = pytest.mark.parametrize("norm", NORMS)
LogitsFn = Callable[[jax.Array], jax.Array]


def _linear(weights: np.ndarray) -> LogitsFn:
    return lambda x: (x - 0.5).reshape(len(x), -1) @ weights


def _curved(weights: np.ndarray) -> LogitsFn:
    return lambda x: jnp.sin(9 * x.reshape(len(x), -1)) @ weights


def _correct_examples(logits_fn: LogitsFn, shape: tuple[int, ...], count: int) -> tuple:
    images = np.random.default_rng(1).uniform(0.3, 0.7, (count, *shape)).astype(np.float32)
    return images, np.asarray(logits_fn(jnp.asarray(images))).argmax(axis=1)


@pytest.mark.parametrize("name", MAKERS)
@names
def test_linear_classifier_in_closed_form(
    norm: str, name: str, run_plainly: Callable[..., Outcome]
) -> None:
    """Robust if and only if the margin exceeds epsilon ||w_y - w_i||_dual; two classes compete."""
    contender = np.random.default_rng(0).normal(size=12).astype(np.float32)
    weights = np.stack([contender, -contender, 0 * contender, 0 * contender], axis=1)

    def logits_fn(x: jax.Array) -> jax.Array:
        return _linear(weights)(x) + jnp.array([0.0, 0.0, -9.0, -8.0])

    images, labels = _correct_examples(logits_fn, (3, 2, 2), 80)
    epsilon = {"Linf": 0.03, "L2": 0.1, "L1": 0.15}[norm]
    attack = MAKERS[name](norm)
    outcome = run_plainly(attack, logits_fn, images, labels, epsilon)
    scores = (images.astype(np.float64) - 0.5).reshape(80, 12) @ contender
    slack = 2 * np.abs(scores) - epsilon * np.linalg.norm(2 * contender, ord=DUALS[norm])
    decided = np.abs(slack) > 1e-2
    assert decided.sum() > 70
    assert 10 < outcome.is_broken.sum() < 70
    np.testing.assert_array_equal(outcome.is_broken[decided], (slack < 0)[decided])


def _examples(logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray) -> Examples:
    images = jnp.asarray(images)
    keys = jax.random.split(jax.random.key(5), len(images))
    return Examples(images, jnp.asarray(labels), keys, logits_fn(images))


def _trajectory(
    attack: Attack, logits_fn: LogitsFn, examples: Examples, epsilon: float
) -> list[apgd.APGDState]:
    """Every state of the first run, from the start on."""
    size = len(examples.labels)
    step = jax.jit(lambda *rest: attack.step(lambda x, _: logits_fn(x), *rest))
    states = [jax.jit(attack.start)(examples, jnp.zeros(size, int), epsilon)]
    for k in range(attack.num_steps):
        states.append(step(examples, jnp.full(size, k), epsilon, states[-1]))
    return states


def _numpy_projection(norm: str, x: np.ndarray, image: np.ndarray, epsilon: float) -> np.ndarray:
    move = x - image
    if norm == "Linf":
        return np.clip(image + np.clip(move, -epsilon, epsilon), 0, 1)
    return np.clip(image + move * min(1, epsilon / max(np.linalg.norm(move), 1e-300)), 0, 1)


def _numpy_apgd(
    norm: str, loss_fn: Callable, x: np.ndarray, image: np.ndarray, epsilon: float
) -> tuple[list[np.ndarray], list[float]]:
    """One example in plain loops, as published; iterates and the step size of each update."""
    loss, gradient = loss_fn(x)
    best_loss, best_x, best_gradient = loss, x, gradient
    previous, eta, losses, was_halved, best_before = x, 2 * epsilon, [0.0], True, loss
    iterates, etas, last_check = [x], [], 0
    checkpoints = [22, 41, 57, 70, 80, 87, 93, 99]
    for i in range(1, 101):
        unit = np.sign(gradient) if norm == "Linf" else gradient / np.linalg.norm(gradient)
        u = _numpy_projection(norm, x + eta * unit, image, epsilon)
        a = 1 if i == 1 else 0.75
        new = _numpy_projection(norm, x + a * (u - x) + (1 - a) * (x - previous), image, epsilon)
        previous, x = x, new
        etas.append(eta)
        loss, gradient = loss_fn(x)
        losses.append(loss)
        if loss > best_loss:
            best_loss, best_x, best_gradient = loss, x, gradient
        if i in checkpoints:
            window = losses[last_check : i + 1]
            rises = sum(b > a for a, b in itertools.pairwise(window))
            stuck = not was_halved and best_loss == best_before
            was_halved = rises <= 0.75 * (i - last_check) or stuck
            if was_halved:
                eta, x, gradient = eta / 2, best_x, best_gradient
            best_before, last_check = best_loss, i
        iterates.append(x)
    return iterates, etas


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_equals_plain_loops_of_one_example(norm: str, loss: str) -> None:
    weights = np.random.default_rng(6).normal(size=(6, 4))
    logits_fn, attack, epsilon = _curved(weights), MAKERS[loss](norm), 1.5 * EPSILONS[norm]
    loss_fn = {"ce": apgd.unsaturated_cross_entropy, "dlr": apgd.dlr}[loss]
    with jax.enable_x64(True):
        images, labels = _correct_examples(logits_fn, (3, 2, 1), 4)
        images = images.astype(np.float64)
        states = _trajectory(attack, logits_fn, _examples(logits_fn, images, labels), epsilon)
        halvings = set()
        for i in range(4):
            label = jnp.asarray(labels[i : i + 1])
            value_and_grad = jax.jit(
                jax.value_and_grad(lambda x, label=label: loss_fn(logits_fn(x[None]), label)[0])
            )
            iterates, etas = _numpy_apgd(
                norm,
                lambda x, f=value_and_grad: jax.tree.map(np.asarray, f(jnp.asarray(x))),
                np.asarray(states[0].x[i]),
                images[i],
                epsilon,
            )
            for k in range(101):
                # The memory holds the point that the step started from, halving included.
                actual = states[k + 1].memory.previous[i]
                np.testing.assert_allclose(actual, iterates[k], atol=1e-6, err_msg=str((i, k)))
                if k < 100:
                    assert float(states[k + 1].memory.step_size[i]) == pytest.approx(etas[k])
            halvings.add(round(float(np.log2(etas[0] / etas[-1]))))
        assert max(halvings) >= 3


@names
def test_nobody_depends_on_the_batch(norm: str) -> None:
    """In another place, with others at another step of another run, an example fares equally."""
    weights = np.random.default_rng(7).normal(size=(8, 5))
    logits_fn, attack = _curved(weights), MAKERS["targeted"](norm, num_steps=20)
    with jax.enable_x64(True):
        images, labels = _correct_examples(logits_fn, (4, 2, 1), 6)
        whole = _examples(logits_fn, images.astype(np.float64), labels)
        batch = _trajectory(attack, logits_fn, whole, EPSILONS[norm])[-1]
        pair = jax.tree.map(lambda leaf: leaf[jnp.array([4, 2])], whole)
        step = jax.jit(lambda *rest: attack.step(lambda x, _: logits_fn(x), *rest))
        state = jax.jit(attack.start)(pair, jnp.array([1, 0]), EPSILONS[norm])
        for k in range(attack.num_steps):
            # The other slot is at another step of another run.
            state = step(pair, jnp.array([(k + 3) % attack.num_steps, k]), EPSILONS[norm], state)
        np.testing.assert_allclose(state.x[1], batch.x[2], atol=1e-9)
        np.testing.assert_allclose(state.best.loss[1], batch.best.loss[2], rtol=1e-9)
        assert state.outcome.is_broken[1] == batch.outcome.is_broken[2]
        np.testing.assert_allclose(
            state.outcome.adversarial[1], batch.outcome.adversarial[2], atol=1e-9
        )


@names
def test_every_point_is_allowed_and_ascent_ascends(norm: str) -> None:
    """At a narrow, a wide and no budget, images on the box included; one program for all."""
    weights = np.random.default_rng(8).normal(size=(15, 4)).astype(np.float32)
    logits_fn, attack = _curved(weights), make_apgd(norm=norm, loss="ce", num_steps=20)
    images, labels = _correct_examples(logits_fn, (1, 5, 3), 10)
    images[:3] = np.round(images[:3])
    labels = np.asarray(logits_fn(images)).argmax(axis=1)
    examples = _examples(logits_fn, images, labels)
    traced = []

    @jax.jit
    def step(*rest: object) -> apgd.APGDState:
        traced.append(norm)
        return attack.step(lambda x, _: logits_fn(x), *rest)

    for epsilon in (0.0, EPSILONS[norm], 20.0):
        state = jax.jit(attack.start)(examples, jnp.zeros(10, int), epsilon)
        start_loss = apgd.unsaturated_cross_entropy(logits_fn(state.x), examples.labels)
        for k in range(attack.num_steps):
            reach = apgd_l1.make_phases(20).radius[k] if norm == "L1" else 1
            assert is_inside(state.x, examples.images, norm=norm, epsilon=reach * epsilon).all()
            state = step(examples, jnp.full(10, k), epsilon, state)
        outcome = state.outcome
        assert is_inside(outcome.adversarial, images, norm=norm, epsilon=epsilon).all()
        again = np.asarray(logits_fn(outcome.adversarial)).argmax(axis=1)
        np.testing.assert_array_equal(again != labels, outcome.is_broken)
        if epsilon == 0:
            np.testing.assert_array_equal(outcome.adversarial, images)
        elif norm != "L1":
            assert (state.best.loss >= start_loss).all()
            assert (state.best.loss > start_loss + 1e-3).any()
    assert len(traced) == 1


@names
def test_start_is_on_the_sphere_and_differs(norm: str) -> None:
    images = np.full((3, 4, 4, 3), 0.5, np.float32)
    examples = _examples(_linear(np.ones((48, 4), np.float32)), images, np.zeros(3, int))
    attack = make_apgd(norm=norm, loss="ce", num_restarts=2)
    starts = [attack.start(examples, jnp.full(3, run), 0.2).x for run in (0, 1)]
    reach = 3 * 0.2 if norm == "L1" else 0.2
    for x in starts:
        np.testing.assert_allclose(NORMS[norm].length(x - images), reach, rtol=1e-4)
    assert np.abs(starts[0] - starts[1]).max() > 1e-2
    assert np.abs(starts[0][0] - starts[0][1]).max() > 1e-2


def test_l1_phase_starts_from_the_best_point() -> None:
    weights = np.random.default_rng(9).normal(size=(12, 4)).astype(np.float32)
    logits_fn, attack = _curved(weights), make_apgd(norm="L1", loss="ce", num_steps=10)
    images, labels = _correct_examples(logits_fn, (2, 2, 3), 5)
    states = _trajectory(attack, logits_fn, _examples(logits_fn, images, labels), 0.3)
    for last, radius in ((3, 0.6), (7, 0.3)):
        evaluated = states[last + 1]
        expected = project(evaluated.best.x, images, norm="L1", epsilon=radius)
        np.testing.assert_allclose(evaluated.x, expected, atol=1e-6)
    # Nothing is broken before the radius is epsilon.
    assert not states[8].outcome.is_broken.any()
    assert states[-1].outcome.is_broken.any()


def test_targets_are_the_next_classes_of_the_clean_image() -> None:
    logits = jnp.array([[1.0, 5.0, 3.0, 4.0, 2.0]])
    examples = Examples(jnp.zeros((1, 1, 1, 1)), jnp.array([1]), None, logits)
    other = jnp.array([[0.5, 0.4, 0.3, 0.1, 0.2]])
    for run, target in enumerate((3, 2, 4, 0)):
        expected = apgd.dlr_targeted(other, jnp.array([1]), jnp.array([target]))
        np.testing.assert_array_equal(apgd._targeted(other, examples, jnp.array([run])), expected)


@names
def test_not_finite_is_reported_and_does_not_spread(
    norm: str, run_plainly: Callable[..., Outcome]
) -> None:
    """A network without an answer for bright images, and one with a slope of NaN only."""
    images = np.full((2, 1, 2, 1), 0.4, np.float32)
    images[1] = 0.6

    def silent(x: jax.Array) -> jax.Array:
        mean = x.mean(axis=(1, 2, 3))[:, None]
        return jnp.where(mean > 0.5, jnp.nan, 1) * jnp.array([3.0, 2, 1, 0]) + mean

    attack = make_apgd(norm=norm, loss="ce", num_steps=5)
    outcome = run_plainly(attack, silent, images, np.zeros(2, int), 0.01)
    assert outcome.nonfinite.tolist() == [False, True]
    assert not outcome.is_broken.any()

    def rough(x: jax.Array) -> jax.Array:
        poison = jnp.sqrt(x - x) * jnp.array([1.0, 0, 0, 0])
        return x.mean(axis=(1, 2, 3))[:, None] * jnp.array([3.0, 2, 1, 0]) + poison[:, 0, 0]

    examples = _examples(rough, images, np.zeros(2, int))
    for state in _trajectory(attack, rough, examples, 0.01):
        assert jnp.isfinite(state.x).all()
        assert jnp.isfinite(state.best.gradient).all()
    assert not state.outcome.is_broken.any()
    assert not state.outcome.nonfinite.any()


def test_eot_averages_gradients_with_keys_of_their_own() -> None:
    """A gradient that is noise of each draw: the mean of 64 is an eighth as long."""
    examples = _examples(_linear(np.ones((4, 4), np.float32)), np.full((3, 2, 2, 1), 0.5), [0] * 3)

    def noisy(x: jax.Array, keys: jax.Array) -> jax.Array:
        noise = jax.vmap(lambda key: jax.random.normal(key, (4, 4)))(keys)
        return jnp.einsum("bi,bij->bj", x.reshape(3, 4), noise)

    def gradient(num_eot: int, k: int) -> np.ndarray:
        attack = make_apgd(norm="L2", loss="ce", num_eot=num_eot)
        assert (attack.forward_passes, attack.backward_passes) == (num_eot, num_eot)
        state = jax.jit(attack.start)(examples, jnp.zeros(3, int), 0.1)
        step = jax.jit(lambda *rest: attack.step(noisy, *rest))
        return np.asarray(step(examples, jnp.full(3, k), 0.1, state).best.gradient)

    one, many = gradient(1, 0), gradient(64, 0)
    assert 0.03 < np.std(many) / np.std(one) < 0.4
    assert np.abs(one - gradient(1, 1)).max() > 0.1
    np.testing.assert_array_equal(one, gradient(1, 0))


def test_small_images() -> None:
    weights = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    for norm in NORMS:
        examples = _examples(_linear(weights), np.full((1, 1, 1, 1), 0.7, np.float32), [0])
        attack = make_apgd_targeted(norm=norm, num_targets=1, num_steps=2)
        last = _trajectory(attack, _linear(weights), examples, 0.1)[-1]
        assert jnp.isfinite(last.x).all()


def test_bad_settings() -> None:
    for change, message in (
        ({"norm": "L7"}, "unknown norm 'L7'"),
        ({"loss": "mse"}, "unknown loss 'mse': choose one of ce, dlr"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"num_restarts": 0}, "num_restarts must be at least 1, got 0"),
        ({"num_eot": 0}, "num_eot must be at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            make_apgd(**({"norm": "Linf", "loss": "ce"} | change))
    with pytest.raises(InputError, match="num_steps must be at least 2 in L1, got 1"):
        make_apgd(norm="L1", loss="ce", num_steps=1)
    assert make_apgd(norm="L1", loss="ce", num_steps=2).num_steps == 5
    with pytest.raises(InputError, match="num_targets must be at least 1, got 0"):
        make_apgd_targeted(norm="Linf", num_targets=0)
    examples = _examples(_linear(np.ones((4, 5), np.float32)), np.zeros((1, 2, 2, 1)), [0])
    with pytest.raises(InputError, match="needs 10 classes or more, got 5"):
        make_apgd_targeted(norm="Linf").start(examples, jnp.zeros(1, int), 0.1)
