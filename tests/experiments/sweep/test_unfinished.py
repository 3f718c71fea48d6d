"""What is removed is a sweep's own and finished, and nothing is ever removed through a link."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.sweep import unfinished
from rctaf_jax.experiments.sweep.members import SweepMember
from rctaf_jax.experiments.sweep.unfinished import Group

DONE, LOST = "relu-seed0", "relu-seed1"


@pytest.fixture
def folder(make_folder: Callable[..., Path], make_member: Callable[..., Any]) -> Path:
    return make_folder([make_member(None, float("inf"), 0)])


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Somebody's folders, one of which looks like a group that is done."""
    place = tmp_path / "elsewhere"
    (place / "thesis").mkdir(parents=True)
    (place / "thesis" / "chapter.txt").write_text("important")
    (place / ("0" * 32)).mkdir()
    (place / ("0" * 32) / "data.txt").write_text("important")
    return place


def started(folder: Path, *members: str, devices: int = 1) -> Path:
    """A group under way, its checkpoints made."""
    checkpoints = unfinished.claim(folder, Group(members, devices, 1))
    (checkpoints / "8").mkdir(parents=True)
    return checkpoints.parent


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_groups_that_are_done_and_what_never_was_whole_are_removed(folder):
    done, awaited = started(folder, DONE), started(folder, DONE, LOST)
    cut = folder / "unfinished" / "relu-seed9-0123456789ab"
    cut.mkdir()
    (cut / f".members.json.{'a' * 32}.tmp").write_text('{"mem')
    half = folder / "unfinished" / ("f" * 32)
    (half / "checkpoints").mkdir(parents=True)
    (half / "row.json").write_text("{}")
    unfinished.clear(folder)
    assert not any(place.exists() for place in (done, cut, half))
    assert list((folder / "unfinished").iterdir()) == [awaited]
    unfinished.remove(folder, Group((DONE, LOST), 1, 1))
    unfinished.clear(folder)
    assert not (folder / "unfinished").exists()


@pytest.mark.parametrize("name", ["thesis", "relu-seed0-0123456789ab", "f" * 31, "F" * 32])
def test_what_is_not_a_sweeps_own_is_left_alone(folder, name):
    """Even beside a members.json, as long as the folder is not the one that the group claims."""
    done = started(folder, DONE)
    place = folder / "unfinished" / name
    shutil.copytree(done, place)
    (place / "chapter.txt").write_text("important")
    (folder / "unfinished" / "note.txt").write_text("important")
    unfinished.clear(folder)
    assert not done.exists()
    assert (place / "chapter.txt").read_text() == "important"
    assert (folder / "unfinished" / "note.txt").read_text() == "important"


def test_an_unfinished_that_is_a_link_is_not_followed(folder, elsewhere):
    before = contents(elsewhere)
    (folder / "unfinished").symlink_to(elsewhere)
    unfinished.clear(folder)
    assert contents(elsewhere) == before
    for group in (Group((DONE,), 1, 1), Group(("thesis",), 1, 1)):
        place = unfinished.claim(folder, group).parent
        unfinished.remove(folder, group)
        assert place.exists()  # behind the link, so left alone


def test_an_entry_that_is_a_link_is_not_followed(folder, elsewhere):
    before = contents(elsewhere)
    (folder / "unfinished").mkdir()
    group = started(folder, DONE)
    (folder / "unfinished" / ("e" * 32)).symlink_to(elsewhere)
    (group / "checkpoints" / "9").symlink_to(elsewhere)
    unfinished.clear(folder)
    assert contents(elsewhere) == before
    assert not group.exists()
    assert (folder / "unfinished" / ("e" * 32)).is_symlink()


@pytest.mark.parametrize(
    "place",
    [
        "unfinished",
        "members",
        "unfinished/" + "e" * 32,
        f"members/{DONE}",
        f"members/{DONE}/checkpoints",
    ],
)
def test_a_link_where_a_sweep_works_is_refused_before_any_work(folder, elsewhere, place):
    unfinished.check_is_ours(folder)
    path = folder / place
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(elsewhere)
    before = contents(elsewhere)
    with pytest.raises(InputError, match=f"{place} is a link: it must be a folder"):
        unfinished.check_is_ours(folder)
    assert contents(elsewhere) == before


def test_a_results_folder_that_is_a_link_is_good(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    started(folder, DONE)
    unfinished.check_is_ours(tmp_path / "link")
    unfinished.clear(tmp_path / "link")
    assert not (folder / "unfinished").exists()


GOOD = {"members": [DONE], "devices": 1, "per_device": 1}
DAMAGED = {
    "a number of members": ({"members": 5}, "members = 5: it must be a list of length >= 1"),
    "no member": ({"members": []}, r"members = \[\]: it must be a list of length >= 1"),
    "a member without a name": ({"members": [DONE, None]}, r"members\[1\] = null: it must be text"),
    "no list": ({"members": None}, "members = null: it must be a list"),
    "no device": ({"devices": 0}, "devices = 0: it must be an integer >= 1"),
    "half a place": ({"per_device": 0.5}, "per_device = 0.5: it must be an integer >= 1"),
    "a key too few": ({"devices": ...}, "lacks devices: it must be an integer >= 1"),
    "nested": ("[" * 100_000, "is nested too deeply: 64 levels are allowed"),
    "no object": ("[]", r"holds \[\]: it must hold one object"),
    "cut": ('{"mem', "is damaged"),
}


@pytest.mark.parametrize(("change", "sentence"), DAMAGED.values(), ids=DAMAGED)
def test_a_group_that_cannot_be_read_is_kept_and_named(folder, change, sentence):
    place = started(folder, DONE)
    if isinstance(change, dict):
        changed = {key: value for key, value in (GOOD | change).items() if value is not ...}
        change = json.dumps(changed)
    (place / "members.json").write_text(change)
    before = contents(folder)
    for refused in (unfinished.check_is_ours, unfinished.clear):
        with pytest.raises(InputError, match=f"{place.name}/members.json (has )?{sentence}"):
            refused(folder)
    assert contents(folder) == before


def member(name: str) -> SweepMember:
    return SweepMember(name, parse_activation("relu"), 0)


def test_damaged_is_not_missing(folder, make_member):
    row = folder / "members" / DONE / "row.json"
    assert unfinished.is_measured(folder, DONE)
    assert not unfinished.is_measured(folder, LOST)
    for name in (DONE, LOST):
        unfinished.check_readable(folder, member(name))
    row.write_text(json.dumps(make_member(None, float("inf"), 0) | {"seed": "x"}))
    with pytest.raises(InputError, match=f'{DONE}/row.json has seed = "x": it must be an integer'):
        unfinished.is_measured(folder, DONE)
    with pytest.raises(InputError, match=f'{DONE}/row.json has seed = "x"'):
        unfinished.check_readable(folder, member(DONE))


def test_outcomes_that_are_not_the_rows_are_damage(folder):
    outcomes = folder / "members" / DONE / "outcomes.npz"
    outcomes.write_bytes(b"half")
    with pytest.raises(InputError, match=f"{DONE}/outcomes.npz is damaged"):
        unfinished.check_readable(folder, member(DONE))
    assert unfinished.is_measured(folder, DONE)  # so it is never trained again unasked
    outcomes.unlink()
    unfinished.check_readable(folder, member(DONE))
    assert not unfinished.is_measured(folder, DONE)
