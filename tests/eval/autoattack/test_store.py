import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack.pool import Finished
from rctaf_jax.eval.autoattack.store import LOGITS, SETUP, Store

SETUP_VALUES = {"norm": "Linf", "epsilon": 0.1, "attacks": ["apgd-ce: 1 x 100 steps"]}
CLEAN = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def group(*index: int) -> Finished:
    rng = np.random.default_rng(index)
    flags = rng.uniform(size=(2, len(index))) < 0.5
    images = rng.uniform(size=(len(index), 2, 2, 1)).astype(np.float32)
    return Finished(np.array(index), flags[0], flags[1], images, np.arange(len(index)))


def joined(store: Store, attack: str) -> Finished:
    groups = [finished for finished, _ in store.load(attack)]
    return Finished(*(np.concatenate(parts) for parts in zip(*groups, strict=True)))


def test_gives_back_what_it_took(tmp_path):
    store = Store(tmp_path / "attack", SETUP_VALUES, CLEAN)
    assert list(store.load("1-square")) == []
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
    assert all(seconds >= 0 for _, seconds in again.load("1-square"))


def test_without_folder_keeps_nothing():
    store = Store(None, SETUP_VALUES, CLEAN)
    store.add("1-square", group(1))
    store.flush()
    assert list(store.load("1-square")) == []


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
        list(Store(tmp_path, SETUP_VALUES, CLEAN).load("1-square"))
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
        list(store.load("1-square"))
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
