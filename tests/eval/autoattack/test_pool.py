from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.eval.autoattack.attack import Attack, Examples, Outcome, initial_outcome, observe
from rctaf_jax.eval.autoattack.pool import attack_all, lanes_of
from rctaf_jax.eval.autoattack.slots import make_pool_programs

RUNS, STEPS = 3, 7


class Counting(NamedTuple):
    """Adds noise of its own to an image, and counts."""

    outcome: Outcome
    total: jax.Array
    key: jax.Array


def start(examples, run, epsilon):
    keys = jax.vmap(jax.random.fold_in)(examples.keys, run)
    return Counting(initial_outcome(examples.images), jnp.zeros(len(run)), keys)


def step(predict, examples, k, epsilon, state):
    """Each step adds a random number; the total is what the network is shown."""
    draw = jax.vmap(lambda key, k: jax.random.uniform(jax.random.fold_in(key, k)))(state.key, k)
    total = state.total + draw
    shown = jnp.broadcast_to(total[:, None, None, None], examples.images.shape)
    logits = predict(shown, examples.keys)
    return Counting(observe(state.outcome, shown, logits, examples.labels), total, state.key)


ATTACK = Attack("counting", "Linf", 2, RUNS, STEPS, start, step, 1, 0)


def ask(threshold, images, keys):
    """Class 0 up to the threshold, 1 above it."""
    total = images[:, 0, 0, 0]
    return jnp.stack([jnp.zeros_like(total), jnp.sign(total - threshold)], 1)


def make_examples(count: int) -> Examples:
    images = np.random.default_rng(0).uniform(size=(count, 2, 1, 1)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), count)
    return Examples(images, np.zeros(count, np.int32), keys, np.zeros((count, 2), np.float32))


def outcomes_one_by_one(examples: Examples, threshold: float) -> dict[int, tuple]:
    """By hand: for each example (broken, shown pixel or None, steps)."""
    expected = {}
    for index, key in enumerate(examples.keys):
        for number in range(RUNS * STEPS):
            run, k = divmod(number, STEPS)
            run_key = jax.random.fold_in(key, run)
            total = (0.0 if k == 0 else total) + jax.random.uniform(jax.random.fold_in(run_key, k))
            if total > threshold:
                expected[index] = (True, float(total), number + 1)
                break
        else:
            expected[index] = (False, None, RUNS * STEPS)
    return expected


def run(examples, threshold, pending, batch_size, devices=None):
    return list(
        attack_all(
            make_pool_programs(ATTACK, ask),
            jnp.float32(threshold),
            examples,
            pending,
            epsilon=0.1,
            batch_size=batch_size,
            devices=devices or jax.local_devices()[:1],
        )
    )


@pytest.mark.parametrize("batch_size", [1, 3, 5, 64])
@pytest.mark.parametrize("num_devices", [1, 4])
def test_every_example_meets_its_own_fate(batch_size: int, num_devices: int) -> None:
    examples = make_examples(23)
    expected = outcomes_one_by_one(examples, 4.4)
    assert 3 < sum(broken for broken, *_ in expected.values()) < 20
    pending = list(range(1, 23))
    groups = run(examples, 4.4, pending, batch_size, jax.local_devices()[:num_devices])
    seen = []
    for group in groups:
        for index, broken, nonfinite, image, steps in zip(*group, strict=True):
            seen.append(int(index))
            assert not nonfinite
            assert (broken, steps) == (expected[index][0], expected[index][2])
            shown = np.full((2, 1, 1), expected[index][1]) if broken else examples.images[index]
            np.testing.assert_allclose(image, shown, rtol=1e-6)
    assert sorted(seen) == pending


def test_nonfinite_answers_end_an_example() -> None:
    """A network without an answer above 4.4 ends exactly what one that errs there would break."""
    examples = make_examples(23)
    expected = outcomes_one_by_one(examples, 4.4)

    def dumb(threshold, images, keys):
        return jnp.where(images[:, 0, 0] > threshold, jnp.nan, jnp.array([[1.0, 0.0]]))

    programs, devices = make_pool_programs(ATTACK, dumb), jax.local_devices()[:1]
    setting = dict(epsilon=0.1, batch_size=8, devices=devices)
    groups = list(attack_all(programs, jnp.float32(4.4), examples, range(23), **setting))
    assert not any(group.is_broken.any() for group in groups)
    for group in groups:
        for index, nonfinite, image, steps in zip(
            group.example, group.nonfinite, group.adversarial, group.num_steps, strict=True
        ):
            assert (nonfinite, steps) == (expected[index][0], expected[index][2])
            np.testing.assert_array_equal(image, examples.images[index])


def test_nobody_pending() -> None:
    assert run(make_examples(2), 1.0, [], 4) == []


def test_one_compilation_for_networks_and_budgets() -> None:
    traced = []

    def counted(threshold, images, keys):
        traced.append(images.shape)
        return ask(threshold, images, keys)

    programs, examples = make_pool_programs(ATTACK, counted), make_examples(16)
    counts = []
    for threshold, epsilon in ((4.4, 0.1), (3.0, 0.2), (5.0, 0.3)):
        setting = dict(epsilon=epsilon, batch_size=8, devices=jax.local_devices()[:1])
        list(attack_all(programs, jnp.float32(threshold), examples, range(16), **setting))
        counts.append(len(traced))
    # Widths 8, 2 and (8 // 16 or 1) at most, however many examples are left when.
    assert set(traced) <= {(width, 2, 1, 1) for width in (8, 2, 1)}
    assert counts[-1] <= 3


@pytest.mark.parametrize(("num_devices", "cores", "lanes"), [(1, 1, 1), (1, 3, 3), (2, 5, 2)])
def test_cores_are_shared_by_the_devices_of_a_cpu(num_devices: int, cores: int, lanes: int) -> None:
    devices = jax.local_devices()[:num_devices]
    assert lanes_of(devices, cores) == dict.fromkeys(devices, lanes)
