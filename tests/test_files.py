"""The writer leaves the old file or the new one; the reader says what is wrong with a file."""

import math
import os
import resource
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.files import (
    append_line,
    expand_home,
    read_arrays,
    read_folder,
    read_json,
    write_arrays,
    write_bytes_atomic,
    write_folder_atomic,
    write_json,
    write_text_atomic,
)


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    value = {"epsilon": 8 / 255, "label": "max |√β|", "rows": [1, None, True]}
    path = write_json(tmp_path / "value.json", value)
    assert read_json(path) == value
    assert "√β" in path.read_text(encoding="utf-8")


def test_an_existing_file_is_replaced_and_nothing_is_left_over(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("a much longer old text")
    write_text_atomic(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_write_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "row.json"
    path.write_text("old")

    def fail(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_bytes_atomic(path, b"new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["row.json"]


def test_a_folder_comes_back_and_replaces_what_was_there(tmp_path: Path) -> None:
    files = {"row.json": b"{}", "checkpoints/8/weights": b"\x00\xff"}
    (tmp_path / "members" / "relu").mkdir(parents=True)
    (tmp_path / "members" / "relu" / "half.npz").write_text("of an earlier try")
    folder = write_folder_atomic(
        tmp_path / "members" / "relu", files, workplace=tmp_path / "unfinished"
    )
    assert read_folder(folder) == files
    assert os.listdir(tmp_path / "unfinished") == []


def test_a_folder_that_cannot_be_written_whole_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([None, OSError("no space left")])

    def fail_at_the_second(_: int) -> None:
        if error := next(answers):
            raise error

    monkeypatch.setattr(os, "fsync", fail_at_the_second)
    with pytest.raises(OSError, match="no space left"):
        write_folder_atomic(
            tmp_path / "new", {"a": b"1", "b": b"2"}, workplace=tmp_path / "unfinished"
        )
    assert not (tmp_path / "new").exists()
    assert os.listdir(tmp_path / "unfinished") == []


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    written = write_text_atomic(tmp_path / "written", "")
    assert written.stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_json_without_a_standard_spelling_is_refused(tmp_path: Path, number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "value.json", {"loss": number})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"id": "half', "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"", "is damaged"),
        (b"[1, 2]", "holds a JSON list"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "row.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path)


def test_missing_arrays_are_named_and_damaged_ones_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.npz"
    with pytest.raises(InputError, match=r"outcomes\.npz does not exist; copy it\.$"):
        read_arrays(path, remedy="copy it")
    path.write_bytes(b"half")
    with pytest.raises(InputError, match=r"kept aside as outcomes\.npz\.damaged; copy it\.$"):
        read_arrays(path, remedy="copy it")
    assert os.listdir(tmp_path) == ["outcomes.npz.damaged"]


def test_arrays_that_are_not_there_are_damage(tmp_path: Path) -> None:
    path = write_arrays(tmp_path / "sums.npz", {"leaf0": np.arange(3)})
    assert read_arrays(path, remedy="copy it", names=["leaf0"])["leaf0"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"holds no array num_done\) and was kept aside"):
        read_arrays(path, remedy="copy it", names=["leaf0", "num_done"])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note", "no array")
    with pytest.raises(InputError, match=r"holds no array note\) and was kept aside"):
        read_arrays(path, remedy="copy it")


def test_what_the_system_refuses_is_not_damage(tmp_path: Path) -> None:
    (tmp_path / "sums.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        read_arrays(tmp_path / "sums.npz", remedy="copy it")
    assert os.listdir(tmp_path) == ["sums.npz"]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_changed_byte_is_damage_or_changes_nothing(tmp_path: Path, compressed: bool) -> None:
    arrays = {"leaf0": np.arange(40.0).reshape(8, 5), "num_done": np.array(7)}
    path = write_arrays(tmp_path / "whole.npz", arrays, compressed=compressed)
    whole = path.read_bytes()
    num_damaged = 0
    for place in range(len(whole)):
        for mask in (0x01, 0x06, 0xFF):
            changed = bytearray(whole)
            changed[place] ^= mask
            path.write_bytes(changed)
            try:
                found = read_arrays(path, remedy="copy it", names=arrays)
            except InputError:
                num_damaged += 1
                continue
            for name, values in arrays.items():
                np.testing.assert_array_equal(found[name], values)
    assert num_damaged > len(whole)


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, "one")
    append_line(path, "β")
    assert path.read_text(encoding="utf-8") == "one\nβ\n"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=r"metrics.jsonl"):
            append_line(path, "a longer one")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text(encoding="utf-8") == "one\nβ\n"


def test_bytes_that_are_no_text_come_back_from_json(tmp_path: Path) -> None:
    value = {"name": os.fsdecode(b"caf\xe9")}
    assert read_json(write_json(tmp_path / "value.json", value)) == value


def test_a_home_that_nobody_has_is_refused() -> None:
    assert expand_home("~/x") == Path.home() / "x"
    with pytest.raises(InputError, match="~nosuchuser/x: there is no such user"):
        expand_home("~nosuchuser/x")
    with pytest.raises(InputError, match="holds a NUL character"):
        expand_home("a\0b")
