"""One process a folder: real processes that hold a lock, and every command that meets it."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from rctaf_jax.cli import main
from rctaf_jax.errors import InputError
from rctaf_jax.files import is_free
from rctaf_jax.locks import alone

HOLD = """
import sys, time
from pathlib import Path
from rctaf_jax.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in `folder`, until it is killed."""
    words = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def is_held(folder: Path) -> bool:
    try:
        with alone(folder):
            return False
    except InputError:
        return True


def test_a_lock_dies_with_its_owner(tmp_path):
    with held(tmp_path / "run") as process:
        with pytest.raises(InputError, match=r"another process is working in .*run: wait"):
            alone(tmp_path / "run").__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not is_held(tmp_path / "run")


def test_a_lock_is_known_by_any_path_and_ends_with_its_block(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    with alone(folder):
        assert is_held(tmp_path / "link")
        assert is_held(tmp_path / "elsewhere" / ".." / "run")
        assert not is_held(tmp_path / "other")
    assert not is_held(folder)


def test_a_locked_folder_is_still_free(tmp_path):
    """Wherever the lock lies, the folder is not there, or has nothing in it."""
    with alone(tmp_path / "runs" / "new"):
        assert not (tmp_path / "runs" / "new").exists()
    (tmp_path / ".lock").touch()
    assert is_free(tmp_path / "runs" / "..") is False
    (tmp_path / "runs" / ".lock").touch()
    assert is_free(tmp_path / "runs")
    (tmp_path / "runs" / "file").touch()
    assert not is_free(tmp_path / "runs")
    assert not is_free(tmp_path / "runs" / "file")


def test_it_lies_inside_a_folder_whose_parent_cannot_be_written(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with alone(folder):
        assert (folder / ".lock").exists()
        assert is_held(folder)
    assert not (tmp_path / ".run.lock").exists()


def test_what_cannot_be_written_names_the_folder(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.lock_file)

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(OSError, match=r"Read-only file system: '.*/run'$"):
        alone(tmp_path / "run").__enter__()


def test_a_file_system_without_locks_is_worked_on_with_a_word(tmp_path, monkeypatch, capsys):
    def refuse(self, **_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), self.lock_file)

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with alone(tmp_path / "run"):
        pass
    assert "has no locks: see to it that no other process" in capsys.readouterr().err


TINY = ["--num-train", "64", "--num-test", "20", "--model", "mlp-1x8", "--epochs", "1"]
TINY += ["--pgd-steps", "2", "--attack-steps", "1", "--step-size", "0.1", "--batch-size", "16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("locks") / "run"
    assert main(["train", *TINY, "--activation", "relu", "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["train", *TINY, "--output", "FOLDER"],
        ["sweep", *TINY, "--betas", "--baselines", "relu", "--output", "FOLDER"],
        ["reproduce", "figure-2", "--output", "FOLDER"],
        ["attack", "RUN", "--attacks", "square", "--num-examples", "2", "--output", "FOLDER"],
        ["hessian", "RUN", "--method", "neuron", "--output", "FOLDER"],
    ],
)
def test_the_second_process_says_so_and_leaves(run, tmp_path, capsys, words):
    folder = tmp_path / "results"
    names = {"RUN": str(run), "FOLDER": str(folder)}
    with held(folder):
        capsys.readouterr()
        assert main([names.get(word, word) for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"rctaf: another process is working in {folder}: wait")
    assert not folder.exists()


def test_an_evaluation_does_not_write_where_another_process_works(run, capsys):
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with held(run / "evaluations" / "pgd-3x1-margin"):
        assert main(["evaluate", str(run), "--pgd-steps", "3"]) == 2
    assert "another process is working in" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
