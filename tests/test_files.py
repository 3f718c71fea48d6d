"""The writer leaves the old file or the new one; the reader says what is wrong with a file."""

import math
import os
import resource
import signal
from pathlib import Path

import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.files import (
    append_line,
    expand_home,
    read_folder,
    write_bytes_atomic,
    write_folder_atomic,
    write_json,
    write_text_atomic,
)
from rctaf_jax.typed_json import read_json


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
        (b"[1, 2]", r"holds \[1, 2\]: it must hold one object"),
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


def test_a_home_that_nobody_has_is_refused() -> None:
    assert expand_home("~/x") == Path.home() / "x"
    with pytest.raises(InputError, match="~nosuchuser/x: there is no such user"):
        expand_home("~nosuchuser/x")
    with pytest.raises(InputError, match="holds a NUL character"):
        expand_home("a\0b")
