"""Blocks of the images attacked on their own: together, what one ensemble does to all of them."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.eval.autoattack import blocks, make_autoattack
from rctaf_jax.eval.autoattack.apgd import make_apgd
from rctaf_jax.eval.autoattack.blocks import (
    Job,
    Known,
    block_of,
    known_of,
    make_attack_block,
    split,
)
from rctaf_jax.eval.autoattack.ensemble import place_of, run_all
from rctaf_jax.eval.autoattack.pool import Finished
from rctaf_jax.eval.autoattack.square import make_square

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.3, 0.7, (23, 3, 2, 1)).astype(np.float32)
WEIGHTS = {
    "hidden": RNG.normal(size=(6, 16)).astype(np.float32),
    "output": RNG.normal(size=(16, 5)).astype(np.float32),
}
ATTACKS = (
    make_apgd(norm="Linf", loss="ce", num_steps=6),
    make_square(norm="Linf", num_queries=40),
    make_apgd(norm="Linf", loss="dlr", num_steps=6),
)
EPSILON, SLOTS = 0.025, 2


def network(variables, x):
    """Its logits are not finite where the first pixel is bright."""
    rows = x.reshape(len(x), -1)
    logits = jnp.tanh(3 * (rows - 0.5) @ variables["hidden"]) @ variables["output"]
    return jnp.where(rows[:, :1] > 0.69, jnp.nan, logits)


# Those whose labels are right, but for two.
LABELS = np.argmax(np.asarray(network(WEIGHTS, IMAGES)), axis=1)
LABELS[[3, 11]] = (LABELS[[3, 11]] + 1) % 5


def attacked_in_blocks(programs, setting, clean, store, progress):
    """An engine that has blocks attacked, the second by halves, and then reads what came."""
    attacks = tuple(program.attack for program in programs)
    known = known_of(attacks, setting, clean, store)
    job = Job(network, None, WEIGHTS, attacks, EPSILON, SLOTS)
    device = jax.local_devices()[0]
    attack_block = make_attack_block(job, device, cores=1)
    parts = split(np.flatnonzero(known.unfinished()), slots=SLOTS, num_devices=3)
    assert len(parts) == 3
    came = []
    for place, part in enumerate([*parts, *parts]):
        stream = attack_block(block_of(part, setting.examples, clean, known))
        for turn, (number, finished) in enumerate(stream):
            came += [(number, example) for example in finished.example]
            known.record(number, finished)
            store.add(place_of(number + 1, attacks[number]), finished)
            if place == 1 and turn == 0:
                break
    store.flush()
    assert not known.unfinished().any()
    assert len(set(came)) == len(came)
    return run_all(programs, setting, clean, store, progress)


@pytest.mark.filterwarnings("ignore:the logits of .* are not finite")
@pytest.mark.parametrize("individual", [False, True])
def test_blocks_are_the_ensemble(individual, tmp_path, monkeypatch):
    """Half of a block's work, lost on the way, is done again; nothing else is."""
    settings = {"norm": "Linf", "attacks": ATTACKS, "individual": individual, "batch_size": SLOTS}
    arguments = (WEIGHTS, IMAGES, LABELS, jax.random.key(1), EPSILON)
    monkeypatch.setattr(blocks, "SEND_SECONDS", 0.0)
    whole = make_autoattack(network, devices=jax.local_devices()[:1], **settings)(*arguments)
    in_blocks = make_autoattack(network, engine=attacked_in_blocks, **settings)
    parts = in_blocks(*arguments, directory=tmp_path)
    assert 3 < whole.robust.sum() < 18
    assert whole.nonfinite.any()
    for name in ("robust", "adversarial", "correct", "nonfinite", "warnings"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    for one, other in zip(parts.attacks, whole.attacks, strict=True):
        for name in set(one._fields) - {"seconds"}:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_what_is_finished_is_what_an_attack_would_not_be_given():
    """Against a walk through each image on its own."""
    rng = np.random.default_rng(0)
    for individual in (False, True):
        done, broken, nonfinite = rng.random((3, 4, 200)) < [[[0.8]], [[0.2]], [[0.1]]]
        known = Known(rng.random(200) < 0.8, individual, done, broken & done, nonfinite & done)
        for image, is_unfinished in enumerate(known.unfinished()):
            expected, is_attacked = False, known.correct[image]
            for number in range(4):
                expected |= bool(is_attacked) and not done[number, image]
                is_attacked &= individual or not known.is_broken[number, image]
            assert is_unfinished == expected


def test_progress_counts_what_is_known():
    nothing = np.zeros((3, 2, 4), bool)
    known = Known(np.array([True, True, True, False]), False, *nothing)
    clean = np.zeros((2, 1, 1, 1), np.float32)
    known.record(0, Finished(np.array([0, 2]), np.array([True, False]), nothing[0, 0, :2], clean,
                             np.array([1, 6])))  # fmt: skip
    first, second = (known.progress(number, ATTACKS[:2]) for number in (0, 1))
    assert first[:-1] == ("apgd-ce", 1, 2, 2, 3, 0.5)
    assert second[:-1] == ("square", 2, 2, 0, 2, 0.5)
    assert first.robust.tolist() == second.robust.tolist() == [False, True, True, False]


@pytest.mark.parametrize("number", [1, 2, 3, 5, 31, 32, 33, 100, 1000])
@pytest.mark.parametrize("num_devices", [1, 3, 40])
def test_a_split_is_of_all_and_has_no_single_image(number, num_devices):
    pending = np.arange(number) * 3
    parts = split(pending, slots=8, num_devices=num_devices)
    np.testing.assert_array_equal(np.concatenate(parts), pending)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(number, 2)
    assert max(sizes) <= min(32, max(-(-number // num_devices), 3))


@pytest.mark.filterwarnings("ignore:the logits of .* are not finite")
def test_a_block_is_plain_values():
    """Any process understands it: no array of JAX is in it, and no key."""
    setup = {}

    def engine(programs, setting, clean, store, progress):
        attacks = tuple(program.attack for program in programs)
        known = known_of(attacks, setting, clean, store)
        setup["block"] = block_of(np.array([5, 2]), setting.examples, clean, known)
        return run_all(programs, setting, clean, store, progress)

    run = make_autoattack(network, norm="Linf", attacks=ATTACKS[:1], batch_size=2, engine=engine)
    run(WEIGHTS, IMAGES, LABELS, jax.random.key(1), EPSILON)
    block = pickle.loads(pickle.dumps(setup["block"]))
    leaves = [leaf for leaf in [*block, *block.known] if not isinstance(leaf, Known | bool)]
    assert all(type(leaf) is np.ndarray for leaf in leaves)
    np.testing.assert_array_equal(block.images, IMAGES[[5, 2]])
