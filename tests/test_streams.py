"""The command where stdout is closed or full, where letters lack, and for words that cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rctaf_jax.cli import main, readable
from rctaf_jax.values import shortened

RCTAF = f"{sys.executable} -m rctaf_jax"
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, env=os.environ | environment, check=False
    )


@pytest.mark.parametrize(
    ("end", "code", "sentence"),
    [
        (">&-", 2, b"rctaf: nobody reads the output, which is closed"),
        (">&- 2>&-", 2, b""),
        ("2>&-", 0, b""),
        (">/dev/full", 2, b"rctaf: No space left on device"),
    ],
)
def test_a_stream_that_is_closed_or_full(end, code, sentence):
    ended = shell(f"{RCTAF} data digits {end}")
    assert ended.returncode == code
    assert ended.stderr.startswith(sentence)
    assert len(ended.stderr.splitlines()) == bool(sentence)


@pytest.mark.parametrize(
    ("encoding", "environment"),
    [
        ("ascii", {"PYTHONIOENCODING": "ascii"}),
        ("latin-1", {"PYTHONIOENCODING": "latin-1"}),
        ("ascii", {**C_LOCALE, "COLUMNS": "40"}),
    ],
)
def test_an_encoding_without_greek_letters(tmp_path, encoding, environment):
    ended = shell(f"{RCTAF} activations gelu --output {tmp_path}", **environment)
    assert (ended.returncode, ended.stderr) == (0, b"")
    table = [line for line in ended.stdout.decode(encoding).splitlines() if "|" in line]
    assert any("max|sigma''|" in line.replace(" ", "") for line in table)
    assert len({len(line) for line in table}) == 1  # columns are measured in what is printed


def test_bytes_that_are_no_text_are_refused_in_a_sentence():
    ended = shell(RCTAF + r" data $'\xff\xfe'")
    assert ended.returncode == 2
    assert b"no UTF-8" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", ""], "argument 2 is empty: leave it out, or give a value."),
        (["data", "a" * 100_000], "has 100,000 characters: none may have more than 4,096."),
        (["data", "a" * 4000], "File name too long; give a shorter one."),
        (["evaluate", "a" * 4000], "File name too long; give a shorter one."),
        (["train", "--epochs", "1" * 4000], "epochs must be at most 2,147,483,647"),
        (["sweep", "--preset", "a b " * 1000], "unknown preset"),
        (["data", "a\0b"], "holds a NUL character"),
        (["data", "~nosuchuser/x"], "~nosuchuser/x: there is no such user"),
        (["data", "cifar10", "--data-dir", "~nosuchuser/x"], "there is no such user"),
        (["train", "--output=~nosuchuser/x"], "~nosuchuser/x: there is no such user"),
        (["evaluate", "~nosuchuser/x"], "~nosuchuser/x: there is no such user"),
        (["evaluate", __file__], "is no network: expected a file that ends in .safetensors"),
        (["report", __file__], "is not a results folder"),
        (["claims", __file__], "is not a results folder"),
        (["attack", "/nonexistent", "--attack-seed", str(2**70)], "at most 64 bits"),
        (["hessian", "/nonexistent", "--seed", str(2**70)], "at most 64 bits"),
        (["sweep", "--width", "1e12"], "more than 16,777,216 channels"),
        (["sweep", "--width", "1e308"], "more than 16,777,216 channels"),
        (["sweep", "--model", "mlp-1x99999999999"], "more than 16,777,216 channels"),
        (["sweep", "--model", "mlp-99999999x8"], "more than 1,000 layers"),
        (["sweep", "--model", "wrn-28-9999"], "36,421,564,519,482 parameters, whose training"),
        (["sweep", "--epochs", str(10**20)], "epochs must be at most 2,147,483,647"),
        (["sweep", "--epochs", str(10**8)], "1,100,000,000 steps, and 536,870,912 can be"),
        (["sweep", "--probes", str(10**12)], "probes must be at most 2,147,483,647"),
        (["sweep", "--batch-size", str(10**15)], "batch-size must be at most"),
    ],
)
def test_words_that_cannot_be_are_one_short_sentence(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert len(line) < 1600
    assert not any(tmp_path.iterdir())


def test_claims_of_a_reproduction_without_networks(tmp_path, capsys):
    folder = str(tmp_path / "figures")
    assert main(["reproduce", "figure-2", "--output", folder]) == 0
    capsys.readouterr()
    assert main(["claims", folder]) == 2
    assert "no network to judge by in" in capsys.readouterr().err


def test_paths_that_a_person_would_copy_stay_whole():
    path = str(Path("/", *["folder"] * 30))
    assert readable(f"{path} is in the way.") == f"{path} is in the way."
    assert len(shortened("x" * 1000)) == 80
