"""Searching with a cheaper network than the one that decides, and as accelerators search."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval import autoattack, make_apgd, make_apgd_targeted, make_fab_targeted, make_square
from rctaf_jax.eval.autoattack.attack import Attack, Examples, Outcome, initial_outcome, observe
from rctaf_jax.eval.autoattack.pool import attack_all
from rctaf_jax.eval.autoattack.slots import CHUNK, make_pool_programs

RUNS, STEPS = 3, 9
KEY = jax.random.key(0)


class Walk(NamedTuple):
    """Shows one number after another, drawn for each example, run and step."""

    outcome: Outcome
    run: jax.Array


def numbers(key: jax.Array, run: jax.Array, k: jax.Array) -> jax.Array:
    return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, run), k))


def step(predict, examples, k, epsilon, state):
    value = jax.vmap(numbers)(examples.keys, state.run, k)
    shown = jnp.broadcast_to(value[:, None, None, None], examples.images.shape)
    outcome = observe(
        state.outcome, shown, predict(shown, examples.keys), examples.labels, value > 0.2
    )
    return Walk(outcome, state.run)


WALK = Attack(
    "walk", "Linf", 2, RUNS, STEPS,
    lambda examples, run, _: Walk(initial_outcome(examples.images), run), step, 1, 0,
)  # fmt: skip


def above(threshold, images, keys):
    """Class 1 above a threshold, and no answer within 0.01 of 0.9."""
    value = images[:, 0, 0, 0]
    logits = jnp.stack([jnp.zeros_like(value), jnp.sign(value - threshold)], 1)
    return jnp.where(jnp.abs(value - 0.9)[:, None] < 0.01, jnp.nan, logits)


def by_hand(key: jax.Array, searched: float, decided: float) -> tuple[bool, bool, float, int]:
    """(broken, nonfinite, last number shown to who decides, steps) of one example."""
    candidate = None
    for number in range(RUNS * STEPS):
        value = float(numbers(key, *divmod(number, STEPS)))
        if value > 0.2 and (value > searched or abs(value - 0.9) < 0.01):
            candidate = value
        is_last = number + 1 == RUNS * STEPS
        if candidate is not None and ((number + 1) % CHUNK == 0 or is_last):
            nonfinite = abs(candidate - 0.9) < 0.01
            if nonfinite or candidate > decided:
                return not nonfinite, nonfinite, candidate, number + 1
            candidate = None
    return False, False, 0.0, RUNS * STEPS


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(("searched", "decided"), [(0.8, 0.95), (0.9, 0.9), (0.97, 0.8), (0.7, 2)])
def test_only_the_one_that_decides_breaks(searched, decided, backend, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    images = np.random.default_rng(0).uniform(size=(25, 2, 1, 1)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), 25)
    examples = Examples(images, np.zeros(25, np.int32), keys, np.zeros((25, 2), np.float32))

    def search(_, images, keys):
        return above(searched, images, keys)

    programs = make_pool_programs(WALK, above, search)
    settings = {"epsilon": 0.1, "batch_size": 4, "devices": jax.local_devices()[:1]}
    groups = list(attack_all(programs, jnp.float32(decided), examples, range(25), **settings))
    seen = {}
    for group in groups:
        for index, *found in zip(*group, strict=True):
            seen[int(index)] = found
    assert sorted(seen) == list(range(25))
    expected = [by_hand(key, searched, decided) for key in keys]
    for index, (broken, nonfinite, value, num_steps) in enumerate(expected):
        shown = np.full((2, 1, 1), value, np.float32) if broken else images[index]
        assert seen[index][:2] == [broken, nonfinite]
        np.testing.assert_array_equal(seen[index][2], shown)
        assert seen[index][3] == num_steps
    if decided < 1:
        assert len({broken for broken, *_ in expected}) == 2


RNG = np.random.default_rng(2)
IMAGES = RNG.uniform(0.3, 0.7, (30, 3, 2, 1)).astype(np.float32)
HIDDEN = RNG.normal(size=(6, 16)).astype(np.float32)
OUTPUT = RNG.normal(size=(16, 5)).astype(np.float32)


def curved(x):
    return jnp.tanh(3 * (x.reshape(len(x), -1) - 0.5) @ HIDDEN) @ OUTPUT


LABELS = np.argmax(np.asarray(curved(IMAGES)), axis=1)
EPSILON = {"Linf": 0.015, "L2": 0.05, "L1": 0.12}


def quick(norm):
    """Every kind of attack, several runs among them."""
    return [
        make_apgd(norm=norm, loss="ce", num_steps=12, num_restarts=2),
        make_apgd_targeted(norm=norm, num_targets=2, num_steps=12),
        make_fab_targeted(norm=norm, num_targets=2, num_steps=10),
        make_square(norm=norm, num_queries=60),
    ]


def attacked(norm, **settings):
    return autoattack(
        curved, IMAGES, LABELS, KEY, norm=norm, epsilon=EPSILON[norm], attacks=quick(norm),
        batch_size=8, devices=jax.local_devices()[:1], **settings,
    )  # fmt: skip


@pytest.mark.parametrize("norm", EPSILON)
def test_the_same_network_as_search_gives_the_same_verdicts(norm):
    plain, split = attacked(norm), attacked(norm, search=curved)
    np.testing.assert_array_equal(split.robust, plain.robust)
    assert 3 < plain.robust.sum() < 27
    broken = split.correct & ~split.robust
    assert (np.argmax(curved(split.adversarial), axis=1) != LABELS)[broken].all()


@pytest.mark.parametrize("norm", EPSILON)
def test_as_on_an_accelerator(norm, monkeypatch):
    """Loops on the device, two sets of slots, starts without a wait, fixed Newton steps."""
    plain = attacked(norm)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = attacked(norm)
    np.testing.assert_array_equal(found.robust, plain.robust)
    broken = found.correct & ~found.robust
    assert (np.argmax(curved(found.adversarial), axis=1) != LABELS)[broken].all()


@pytest.mark.parametrize("norm", EPSILON)
def test_a_search_in_bfloat16_misses_next_to_nothing(norm):
    def rounded(x):
        x = x.astype(jnp.bfloat16).reshape(len(x), -1)
        hidden = jnp.tanh(3 * (x - 0.5) @ HIDDEN.astype(jnp.bfloat16))
        return hidden @ OUTPUT.astype(jnp.bfloat16)

    plain, split = attacked(norm), attacked(norm, search=rounded)
    assert (split.robust != plain.robust).sum() <= 1
    broken = split.correct & ~split.robust
    assert (np.argmax(curved(split.adversarial), axis=1) != LABELS)[broken].all()


@pytest.mark.filterwarnings("ignore:Square lowers")
def test_a_search_that_is_always_wrong_breaks_nothing():
    result = attacked("Linf", search=lambda x: -1e3 * jax.nn.one_hot(jnp.argmax(curved(x), 1), 5))
    broken = result.correct & ~result.robust
    assert (np.argmax(curved(result.adversarial), axis=1) != LABELS)[broken].all()
    assert result.robust.sum() >= attacked("Linf").robust.sum()


def test_what_cannot_be(tmp_path):
    with pytest.raises(InputError, match="search has 3 classes: expected the network's 5"):
        attacked("Linf", search=lambda x: curved(x)[:, :3])
    with pytest.raises(InputError, match="has no search of its own"):
        autoattack(
            lambda x, keys: curved(x), IMAGES, LABELS, KEY, version="rand", search=curved,
            epsilon=0.1,
        )  # fmt: skip
    attacked("Linf", directory=tmp_path / "attack")
    with pytest.raises(InputError, match="holds an attack with another search"):
        attacked("Linf", directory=tmp_path / "attack", search=curved)
