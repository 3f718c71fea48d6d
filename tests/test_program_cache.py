"""Compiled programs are kept for the next command, unless it is told otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from rctaf_jax.program_cache import cache_folder, keep_programs, remove_oldest


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A cache folder of its own, and JAX's setting as it was."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_folder_is_said_once_and_children_know_it(home):
    folder = keep_programs()
    assert folder == cache_folder()
    assert folder.is_dir()
    assert folder.is_relative_to(home)
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)
    assert jax.config.jax_compilation_cache_dir == str(folder)
    del os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert keep_programs() is None


@pytest.mark.parametrize("name", ["JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"])
def test_what_the_environment_says_stands(home, monkeypatch, name):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv(name, "false")
    assert keep_programs() is None
    assert jax.config.jax_compilation_cache_dir == before
    assert list(home.iterdir()) == []


def test_a_folder_that_cannot_be_is_a_sentence(home):
    (home / "rctaf-jax").write_text("")
    with pytest.warns(UserWarning, match="compiled programs are not kept: .*rctaf-jax"):
        assert keep_programs() is None


@pytest.mark.parametrize(
    ("largest", "left"), [(0, []), (2, ["c"]), (5, ["b", "c"]), (9, ["a", "b", "c"])]
)
def test_the_oldest_files_go_first(tmp_path, largest, left):
    for age, (name, size) in enumerate({"a": 4, "b": 3, "c": 2}.items()):
        (tmp_path / name).write_bytes(bytes(size))
        os.utime(tmp_path / name, (age, age))
    remove_oldest(tmp_path, largest)
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def rctaf(home: Path, *words: str) -> str:
    """A command as users give it; every program counts as worth keeping."""
    kept = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    kept |= {"XDG_CACHE_HOME": str(home), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-m", "rctaf_jax", *words, "--output", str(home / "out")]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_a_command_keeps_its_programs_and_the_next_one_finds_them(tmp_path):
    assert "--no-compilation-cache" in rctaf(tmp_path, "activations", "gelu")
    (folder,) = (tmp_path / "rctaf-jax").iterdir()
    programs = {path: path.stat().st_mtime_ns for path in folder.glob("*-cache")}
    assert programs
    damaged = min(programs)
    damaged.write_bytes(damaged.read_bytes()[:20])  # as a killed process leaves it
    assert "--no-compilation-cache" not in rctaf(tmp_path, "activations", "gelu")
    assert set(folder.glob("*-cache")) == set(programs)


def test_a_command_keeps_nothing_where_it_is_told(tmp_path):
    rctaf(tmp_path, "activations", "gelu", "--no-compilation-cache")
    assert not (tmp_path / "rctaf-jax").exists()
