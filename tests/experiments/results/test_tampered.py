"""Folders tampered with in every way end in one sentence that names the file, never a traceback."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rctaf_jax.cli import main
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.rows import load_results

ID = "rct-af-beta1-curvature7-seed0"
WRONG = [None, "x", "20", [], {}, [1], {"a": 1}, True, -3, 1.5, 2**70, "[" * 3]
TEXTS = {"cut": '{"a": ', "empty": "", "null": "null", "a list": "[1, 2]", "deep": "[" * 100_000}
NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 5000]

ROW_KEYS = [
    "seed",
    "num_test",
    "clean_correct",
    "robust_correct",
    "alpha",
    "beta",
    "max_curvature",
    "status",
    "activation",
    "family",
    "id",
]
DATA_KEYS = ["num_train", "num_test", "class_names", "image_shape"]


def tampered(value: dict[str, Any], keys: list[str]) -> Iterator[tuple[str, str]]:
    """Names and texts of JSON files, each wrong in one place."""
    yield from TEXTS.items()
    for key in keys:
        yield f"no {key}", json.dumps({name: v for name, v in value.items() if name != key})
        for wrong in WRONG:
            yield f"{key} = {wrong!r}", json.dumps(value | {key: wrong})
        for number in NUMBERS:
            text = json.dumps(value | {key: "NUMBER"}).replace('"NUMBER"', number)
            yield f"{key} = {number[:9]}", text
        deep = json.dumps(value | {key: "DEEP"}).replace('"DEEP"', '{"a":' * 99 + "1" + "}" * 99)
        yield f"{key} nested", deep


@pytest.fixture
def folder(make_folder: Callable[..., Path], make_member: Callable[..., Any]) -> Path:
    rows = [make_member(1, 7, 0), make_member(1, 10, 0)]
    return make_folder(rows, betas=[1], curvatures=[7, 10], baselines=[], seeds=[0])


def refusal(folder: Path, command: str, capsys: pytest.CaptureFixture[str]) -> str | None:
    """The sentence that a command ends with; None if it ends well."""
    words = {"report": ["report", str(folder)], "claims": ["claims", str(folder)]}[command]
    capsys.readouterr()
    code = main(words)
    error = capsys.readouterr().err
    if code == 0:
        return None
    assert code == 2, error
    assert error.startswith("rctaf: ")
    assert error.count("\n") == 1
    assert len(error) < 500 + 2 * len(str(folder))
    return error


def read_refusal(folder: Path) -> str | None:
    """The sentence that the reader ends with; None if it ends well."""
    try:
        load_results(folder)
    except InputError as error:
        return str(error)
    return None


def check_file(folder: Path, name: str, texts: Iterator[tuple[str, str]], allowed: set[str]) -> int:
    """Every text is refused by the file's name, but for those that are `allowed`."""
    path, count = folder / name, 0
    for change, text in texts:
        path.write_text(text)
        error = read_refusal(folder)
        if change in allowed:
            assert error is None
            continue
        assert error is not None, f"{name}: {change} was believed"
        assert str(path) in error, (change, error)
        assert "\n" not in error
        assert len(error) < 500 + 2 * len(str(folder))
        count += 1
    return count


def test_rows(folder: Path):
    name = f"members/{ID}/row.json"
    row = json.loads((folder / name).read_text())
    good = {"seed = -3"}  # a seed may be negative
    assert check_file(folder, name, tampered(row, ROW_KEYS), good) > 200


@pytest.mark.parametrize(
    ("name", "keys", "allowed"),
    [
        # An older file may lack what judging does not need; null is the same.
        (
            "data.json",
            DATA_KEYS,
            {f"{mark}{key}{end}" for key in ("class_names", "image_shape")
             for mark, end in (("no ", ""), ("", " = None"))},
        ),
        ("environment.json", ["versions", "device"], {"versions = {}", "device = 'x'",
         "device = '20'", "device = '[[['"}),
    ],
)  # fmt: skip
def test_data_and_environment(folder: Path, name: str, keys: list[str], allowed: set[str]):
    value = json.loads((folder / name).read_text())
    assert check_file(folder, name, tampered(value, keys), allowed) > 30


def outcomes(num: int = 360) -> dict[str, np.ndarray]:
    counts = {"clean_correct": 340, "robust": 200, "nonfinite": 0}
    return {name: np.arange(num) < count for name, count in counts.items()}


def tampered_outcomes() -> Iterator[dict[str, Any]]:
    good = outcomes()
    yield outcomes(400)
    for name in good:
        yield {key: value for key, value in good.items() if key != name}
        for wrong in (
            good[name][:-1],
            good[name][:, None],
            good[name].astype(float),
            good[name].astype(np.uint8),
            np.arange(360) < 17,
            np.array(True),
            np.full(360, "x"),
        ):
            yield good | {name: wrong}


def test_outcomes(folder: Path, capsys):
    path, count = folder / "members" / ID / "outcomes.npz", 0
    whole = path.read_bytes()
    for arrays in tampered_outcomes():
        np.savez(path, **arrays)
        error = refusal(folder, "claims", capsys)
        assert error is not None
        assert str(path) in error
        count += 1
    for content in (b"", whole[:100], whole[:-30], b"PK\3\4", b"\x93NUMPY" + bytes(100)):
        path.write_bytes(content)
        error = refusal(folder, "claims", capsys)
        assert error is not None
        assert str(path) in error
    assert path.read_bytes() == content  # where it was: damaged is not missing
    assert count > 20


@pytest.mark.parametrize("command", ["report", "claims"])
def test_each_command_names_the_file(folder: Path, capsys, command: str):
    for name in ("data.json", "environment.json", f"members/{ID}/row.json"):
        path = folder / name
        whole = path.read_text()
        path.write_text("[" * 100_000)
        error = refusal(folder, command, capsys)
        assert error is not None
        assert f"{path} is nested too deeply" in error
        path.write_text(whole)
