import time

import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack.pool import Finished
from rctaf_jax.eval.autoattack.store import LOGITS, SETUP, Store

SETUP_VALUES = {"norm": "Linf", "epsilon": 0.1, "attacks": ["apgd-ce: 1 x 100 steps"]}
CLEAN = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
SHAPE = (2, 2, 1)


def group(*index: int) -> Finished:
    rng = np.random.default_rng(index)
    flags = rng.uniform(size=(2, len(index))) < 0.5
    images = rng.uniform(size=(len(index), 2, 2, 1)).astype(np.float32)
    return Finished(np.array(index), flags[0], flags[1], images, np.arange(len(index)))


def joined(store: Store, attack: str) -> Finished:
    groups = [finished for finished, _ in store.load(attack, SHAPE)]
    return Finished(*(np.concatenate(parts) for parts in zip(*groups, strict=True)))


def test_gives_back_what_it_took(tmp_path):
    store = Store(tmp_path / "attack", SETUP_VALUES, CLEAN)
    assert list(store.load("1-square", SHAPE)) == []
    store.add("1-square", group(3, 1))
    store.add("1-square", group(0))
    store.add("2-square", group(5))
    store.flush()
    store.add("1-square", group(4))
    store.flush()
    again = Store(tmp_path / "attack", SETUP_VALUES, CLEAN * (1 + 1e-5))
    expected = [
        np.concatenate(parts) for parts in zip(group(3, 1), group(0), group(4), strict=True)
    ]
    for actual, wanted in zip(joined(again, "1-square"), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    assert joined(again, "2-square").example.tolist() == [5]
    assert all(seconds >= 0 for _, seconds in again.load("1-square", SHAPE))


def test_attacks_that_run_at_the_same_time_share_the_clock(tmp_path):
    """As on a cluster, whose blocks of images are at different attacks."""
    began = time.monotonic()
    store = Store(tmp_path, SETUP_VALUES, CLEAN)
    for attack, which in (("1-apgd-ce", group(3)), ("2-square", group(1)), ("1-apgd-ce", group(0))):
        store.add(attack, which)
    time.sleep(0.2)
    store.flush()
    taken = time.monotonic() - began
    (one,), (other,) = (store.load(attack, SHAPE) for attack in ("1-apgd-ce", "2-square"))
    assert one[1] == other[1]
    assert 0.2 <= one[1] + other[1] <= taken


def test_without_folder_keeps_nothing():
    store = Store(None, SETUP_VALUES, CLEAN)
    store.add("1-square", group(1))
    store.flush()
    assert list(store.load("1-square", SHAPE)) == []


@pytest.mark.parametrize(("name", "value"), [("epsilon", 0.2), ("norm", "L2"), ("new", 1)])
def test_refuses_another_attack(tmp_path, name, value):
    Store(tmp_path, SETUP_VALUES, CLEAN)
    with pytest.raises(InputError, match=f"another {name}: .* there, {value} here"):
        Store(tmp_path, SETUP_VALUES | {name: value}, CLEAN)


def test_refuses_another_network(tmp_path):
    Store(tmp_path, SETUP_VALUES, CLEAN)
    with pytest.raises(InputError, match="another network"):
        Store(tmp_path, SETUP_VALUES, CLEAN + np.float32(0.1))


def test_knows_a_network_without_answers(tmp_path):
    broken = CLEAN.copy()
    broken[2, 1] = np.nan
    Store(tmp_path, SETUP_VALUES, broken)
    Store(tmp_path, SETUP_VALUES, broken)
    with pytest.raises(InputError, match="another network"):
        Store(tmp_path, SETUP_VALUES, CLEAN)


@pytest.mark.parametrize("keep", [0, 40, -1])
def test_a_truncated_file_is_kept_aside(tmp_path, keep):
    store = Store(tmp_path, SETUP_VALUES, CLEAN)
    for number in range(2):
        store.add("1-square", group(number))
        store.flush()
    path = tmp_path / "1-square" / "000001.npz"
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(InputError, match=r"000001.npz is damaged .* 000001.npz.damaged"):
        list(Store(tmp_path, SETUP_VALUES, CLEAN).load("1-square", SHAPE))
    assert path.with_name("000001.npz.damaged").read_bytes() == content[:keep]
    again = Store(tmp_path, SETUP_VALUES, CLEAN)
    assert joined(again, "1-square").example.tolist() == [1]
    again.add("1-square", group(0))
    again.flush()
    assert sorted(joined(again, "1-square").example.tolist()) == [0, 1]


def test_a_file_without_an_array_is_kept_aside(tmp_path):
    store = Store(tmp_path, SETUP_VALUES, CLEAN)
    store.add("1-square", group(0))
    store.flush()
    path = tmp_path / "1-square" / "000001.npz"
    arrays = dict(np.load(path))
    del arrays["num_steps"]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"no array num_steps.* kept aside as 000001.npz.damaged"):
        list(store.load("1-square", SHAPE))
    np.savez(tmp_path / LOGITS, other=CLEAN)
    with pytest.raises(InputError, match=r"no array clean_logits.* kept aside"):
        Store(tmp_path, SETUP_VALUES, CLEAN)


def test_damaged_setup_and_logits(tmp_path):
    Store(tmp_path, SETUP_VALUES, CLEAN)
    (tmp_path / LOGITS).write_bytes(b"PK")
    with pytest.raises(InputError, match="damaged"):
        Store(tmp_path, SETUP_VALUES, CLEAN)
    Store(tmp_path, SETUP_VALUES, CLEAN)
    (tmp_path / SETUP).write_text("{")
    with pytest.raises(InputError, match=r"setup.json is damaged"):
        Store(tmp_path, SETUP_VALUES, CLEAN)


IMAGE = np.full((1, 2, 2, 1), 0.5, np.float32)
ONE, FLAG = np.array([1]), np.array([True])
TAMPERED = {
    "an example beyond the last": ({"example": np.array([6])}, "an example is none of the 6"),
    "an example before the first": ({"example": np.array([-1])}, "an example is none of the 6"),
    "half an example": ({"example": np.array([0.5])}, "example is of type float64"),
    "truth values for examples": ({"example": FLAG}, "example is of type bool"),
    "two examples": ({"example": np.array([1, 2])}, r"example is of type int64 and shape \(2,\)"),
    "a matrix of examples": ({"example": ONE[None]}, r"example .* shape \(1, 1\)"),
    "no example": ({"example": ONE[:0]}, r"example .* shape \(0,\)"),
    "an example of an earlier file": ({"example": np.array([0])}, "in it or in an earlier file"),
    "an example twice": (
        {name: np.array([1, 1]) for name in ("example", "num_steps")}
        | {name: np.array([True, True]) for name in ("is_broken", "nonfinite")}
        | {"adversarial": np.concatenate([IMAGE, IMAGE])},
        "in it or in an earlier file",
    ),
    "numbers for flags": ({"is_broken": ONE}, "is_broken is of type int64"),
    "text for flags": ({"nonfinite": np.array(["x"])}, "nonfinite is of type <U1"),
    "too many flags": ({"is_broken": np.array([True, True])}, r"is_broken .* shape \(2,\)"),
    "another shape": ({"adversarial": IMAGE.reshape(1, 4, 1, 1)}, r"shape \(1, 4, 1, 1\)"),
    "no batch": ({"adversarial": IMAGE[0]}, r"adversarial .* shape \(2, 2, 1\)"),
    "a number for an image": ({"adversarial": np.array(0.5)}, r"adversarial .* shape \(\)"),
    "grey levels": ({"adversarial": IMAGE.astype(np.uint8)}, "adversarial is of type uint8"),
    "no pixel": ({"adversarial": IMAGE * np.nan}, "pixels outside of 0 to 1"),
    "a pixel too bright": ({"adversarial": IMAGE + 1}, "pixels outside of 0 to 1"),
    "a pixel too dark": ({"adversarial": IMAGE - 1}, "pixels outside of 0 to 1"),
    "an infinite pixel": ({"adversarial": IMAGE * np.inf}, "pixels outside of 0 to 1"),
    "negative steps": ({"num_steps": -ONE}, "a number of steps is negative"),
    "half a step": ({"num_steps": ONE / 2}, "num_steps is of type float64"),
    "negative seconds": ({"seconds": np.array(-1.0)}, "the seconds are no number of 0 or more"),
    "no seconds": ({"seconds": np.array(np.nan)}, "the seconds are no number of 0 or more"),
    "many seconds": ({"seconds": np.array([1.0])}, "the seconds are no number of 0 or more"),
    "a word for seconds": ({"seconds": np.array("long")}, "the seconds are no number"),
}


@pytest.mark.parametrize(("change", "sentence"), TAMPERED.values(), ids=TAMPERED)
def test_what_no_attack_writes_is_kept_aside(tmp_path, change, sentence):
    store = Store(tmp_path, SETUP_VALUES, CLEAN)
    for index in (0, 1):
        store.add("1-square", group(index))
        store.flush()
    path = tmp_path / "1-square" / "000002.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **(arrays | change))
    aside = r"and was kept aside as 000002.npz.damaged; run the same again"
    with pytest.raises(InputError, match=rf"000002.npz is damaged \(.*{sentence}.*\) {aside}"):
        list(store.load("1-square", SHAPE))
    assert joined(store, "1-square").example.tolist() == [0]
    store.add("1-square", group(1))
    store.flush()
    assert joined(store, "1-square").example.tolist() == [0, 1]


@pytest.mark.parametrize(
    "logits",
    [CLEAN[:5], CLEAN[0], CLEAN.astype(np.int32), CLEAN * np.nan, np.array(1.0), CLEAN[:0]],
)
def test_other_clean_answers_are_another_network(tmp_path, logits):
    Store(tmp_path, SETUP_VALUES, CLEAN)
    np.savez(tmp_path / LOGITS, clean_logits=logits)
    with pytest.raises(InputError, match="holds an attack on another network"):
        Store(tmp_path, SETUP_VALUES, CLEAN)


@pytest.mark.parametrize("text", ["null", "[]", "{}", "[" * 100_000, '{"norm": NaN}'])
def test_another_setup_is_refused(tmp_path, text):
    Store(tmp_path, SETUP_VALUES, CLEAN)
    (tmp_path / SETUP).write_text(text)
    with pytest.raises(InputError, match=r"setup.json|holds an attack with another attacks"):
        Store(tmp_path, SETUP_VALUES, CLEAN)
