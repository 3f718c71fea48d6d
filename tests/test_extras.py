"""Without the extra `report`: networks as ever, and one sentence from what cannot do without it."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rctaf_jax
from rctaf_jax.cli import main
from rctaf_jax.extras import REPORT, check_report, missing

ROOT = Path(__file__).parents[1]


def test_nothing_is_missing_here():
    assert missing() == []
    check_report("a test")


def test_the_extra_installs_what_is_looked_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = [line.split(">=")[0] for line in project["optional-dependencies"]["report"]]
    assert sorted(extra) == sorted(REPORT)
    assert not {line.split(">=")[0] for line in project["dependencies"]} & {*REPORT}


@pytest.mark.parametrize(
    ("words", "package"),
    [
        *((["sweep"], package) for package in REPORT),
        (["reproduce", "figure-1"], "matplotlib"),
        (["report", str(ROOT / "results" / "digits")], "jinja2"),
        (["claims", str(ROOT / "results" / "digits")], "statsmodels"),
        (["activations", "mish"], "matplotlib"),
        (["validate-appendix"], "matplotlib"),
    ],
)
def test_a_command_that_needs_it_says_so_before_it_begins(
    words, package, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, package, None)  # which makes it a module that is not there
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.err == (
        f"rctaf: {words[0]} needs {package}, which is not installed: "
        "pip install 'rctaf-jax[report]'.\n"
    )
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_all_that_is_missing_is_named(monkeypatch, capsys):
    for package in ("matplotlib", "pandas"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["sweep"]) == 2
    assert "sweep needs matplotlib, pandas, which are not installed" in capsys.readouterr().err


def test_a_table_without_pandas(monkeypatch):
    from rctaf_jax.experiments import load

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(rctaf_jax.InputError, match=r"load needs pandas.*rctaf-jax\[report\]"):
        load(ROOT / "results" / "digits")


WITHOUT = f"import sys\nsys.modules.update(dict.fromkeys({REPORT}))\n"


def without_report(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, in which the extra is not installed."""
    command = [sys.executable, "-c", WITHOUT + script, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_library_imports_without_it():
    script = """
import importlib, pkgutil
import rctaf_jax
for found in pkgutil.walk_packages(rctaf_jax.__path__, "rctaf_jax."):
    if not found.name.startswith(("rctaf_jax.experiments.", "rctaf_jax.__main__")):
        importlib.import_module(found.name)
        print(found.name)
assert rctaf_jax.load_network and rctaf_jax.experiments.load_outcomes
"""
    done = without_report(script)
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split())
    assert {f"rctaf_jax.{room}" for room in ("models", "training", "eval", "hessian")} <= names
    assert {"rctaf_jax.data.tfds", "rctaf_jax.eval.autoattack.square"} <= names


def test_commands_about_one_network_do_without_it(tmp_path):
    script = """
from rctaf_jax.cli import main
run, out = sys.argv[1] + "/run", sys.argv[1]
tiny = "--model mlp-1x8 --epochs 1 --batch-size 16 --num-train 64 --num-test 16".split()
for words in (
    ["train", *tiny, "--attack-steps", "1", "--step-size", "0.1", "--pgd-steps", "2",
     "--output", run],
    ["evaluate", run, "--pgd-steps", "1"],
    ["attack", run, "--attacks", "apgd-ce", "--num-examples", "2"],
    ["hessian", run, "--method", "hutchinson", "--num-probes", "2", "--output", out + "/hessian"],
    ["export", run, out + "/network.npz"],
    ["data", "digits"],
):
    code = main(words)
    print(words[0], code, flush=True)
"""
    done = without_report(script, str(tmp_path))
    for command in ("train", "evaluate", "attack", "hessian", "export", "data"):
        assert f"{command} 0\n" in done.stdout, done.stderr
    said = "No picture, which needs matplotlib: pip install 'rctaf-jax[report]'.\n"
    assert done.stdout.count(said) == 1
    assert (tmp_path / "run" / "autoattack" / "autoattack.json").exists()
    assert {path.name for path in (tmp_path / "hessian").iterdir()} == {
        "diagonal.npz",
        "hessian.json",
        "setup.json",
        "sums.npz",
    }
