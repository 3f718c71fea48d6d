"""An activation and a method of an installed package in `rctaf sweep`, the report included."""

import json
import sys

import pytest

from rctaf_jax.activations.baselines import BASELINES
from rctaf_jax.cli import main
from rctaf_jax.experiments.run.network import load_network
from rctaf_jax.training.methods.registry import METHODS

MODULE = """
import jax.numpy as jnp
from rctaf_jax.training.methods import trades
from rctaf_jax.training.methods.method import Published

def wave(x):
    return x + jnp.sin(2 * x) / 4

def make(*, strength):
    return trades.trades(beta=strength)._replace(name="gentle")

gentle = Published(make, lambda s: trades.recipe(s)._replace(options={"strength": 1.0}, epochs=1))
number = 3
"""
ENTRY_POINTS = """
[rctaf_jax.activations]
wave = theirs_of_a_test:wave
[rctaf_jax.methods]
gentle = theirs_of_a_test:gentle
"""
SWEEP = "sweep --model mlp-1x4 --num-train 32 --num-test 20 --batch-size 16 --pgd-steps 2"
SWEEP += " --attack-steps 1 --step-size 0.1 --probes 2 --betas 1 --curvatures 3 --seeds 0"


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A package that is installed."""
    place = tmp_path / "site"
    (place / "theirs-1.dist-info").mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: theirs\nVersion: 1\n"
    (place / "theirs-1.dist-info" / "METADATA").write_text(metadata)
    (place / "theirs-1.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (place / "theirs_of_a_test.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [str(place), *sys.path])
    for table in (BASELINES, METHODS):
        before = dict(table)
        for name in before:
            monkeypatch.setitem(table, name, before[name])
    yield
    for table in (BASELINES, METHODS):
        for name in [name for name in table if name in ("wave", "gentle") or "theirs" in name]:
            del table[name]
    sys.modules.pop("theirs_of_a_test", None)


@pytest.mark.parametrize(
    ("activation", "method"),
    [("wave", "gentle"), ("theirs_of_a_test:wave", "theirs_of_a_test:gentle")],
)
def test_a_sweep_of_theirs(theirs, tmp_path, activation, method):
    folder = tmp_path / "sweep"
    words = [*SWEEP.split(), "--method", method, "--baselines", activation]
    assert main([*words, "--output", str(folder)]) == 0
    rows = [json.loads(path.read_text()) for path in folder.glob("members/*/row.json")]
    (row,) = [row for row in rows if row["beta"] is None]
    assert row["activation"] == activation
    assert row["max_curvature"] == pytest.approx(1)
    assert activation in (folder / "report.html").read_text()
    config = json.loads((folder / "config.json").read_text())
    assert config["train"]["method_options"] == ["strength=1"]
    network = load_network(folder / "members" / row["id"])
    assert network.activation.text == activation
    assert main(["report", str(folder)]) == 0


def test_a_run_says_what_it_lacks_elsewhere(theirs, tmp_path, capsys):
    folder = tmp_path / "sweep"
    words = [*SWEEP.split(), "--method", "gentle", "--baselines", "wave", "--output", str(folder)]
    assert main(words) == 0
    del BASELINES["wave"], METHODS["gentle"]
    sys.path.pop(0)
    sys.modules.pop("theirs_of_a_test")
    (member,) = folder.glob("members/wave*")
    assert main(["evaluate", str(member), "--pgd-steps", "1"]) == 2
    assert "unknown activation 'wave'" in capsys.readouterr().err
    assert main(words) == 2
    assert "unknown" in capsys.readouterr().err
    (other,) = folder.glob("members/rct-af*")
    assert main(["evaluate", str(other), "--pgd-steps", "1"]) == 0  # its method is not needed


def test_a_part_that_is_no_method_is_a_sentence(theirs, capsys):
    assert main([*SWEEP.split(), "--method", "theirs_of_a_test:number"]) == 2
    assert "is a int: it must be a rctaf_jax.training" in capsys.readouterr().err
    assert main([*SWEEP.split(), "--method", "theirs_of_a_test:nothing"]) == 2
    assert "theirs_of_a_test has no nothing" in capsys.readouterr().err
