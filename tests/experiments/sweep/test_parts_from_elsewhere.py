"""Parts of an installed package in `rctaf sweep`, each kind, the report included."""

import json
import sys

import pytest

from rctaf_jax.activations.baselines import BASELINES
from rctaf_jax.cli import main
from rctaf_jax.data.named import _OWN as DATASETS
from rctaf_jax.experiments.run.network import load_network
from rctaf_jax.models.table import _OWN as MODELS
from rctaf_jax.training.methods.registry import METHODS

MODULE = """
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rctaf_jax.data import from_arrays
from rctaf_jax.models import nnx_model
from rctaf_jax.training.methods import trades
from rctaf_jax.training.methods.method import Published

def wave(x):
    return x + jnp.sin(2 * x) / 4

def make(*, strength):
    return trades.trades(beta=strength)._replace(name="gentle")

gentle = Published(make, lambda s: trades.recipe(s)._replace(options={"strength": 1.0}, epochs=1))
number = 3

@nnx_model
class small(nnx.Module):
    def __init__(self, image_shape, num_classes, activation, rngs):
        self.first = nnx.Linear(int(np.prod(image_shape)), 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.head = nnx.Linear(5, num_classes, rngs=rngs)
        self.activation = activation

    def __call__(self, x):
        return self.head(self.activation(self.norm(self.first(x.reshape(len(x), -1)))))

def squares():
    labels = np.arange(60) % 3
    images = np.tile((80 * labels[:, None, None]).astype(np.uint8), (1, 4, 4))
    return from_arrays(images[:40], labels[:40], images[40:], labels[40:], name="squares")
"""
ENTRY_POINTS = """
[rctaf_jax.activations]
wave = theirs_of_a_test:wave
[rctaf_jax.methods]
gentle = theirs_of_a_test:gentle
[rctaf_jax.models]
small-net = theirs_of_a_test:small
[rctaf_jax.datasets]
squares = theirs_of_a_test:squares
"""
SWEEP = "sweep --num-train 32 --num-test 20 --batch-size 16 --pgd-steps 2"
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
    for table in (BASELINES, METHODS, MODELS, DATASETS):
        before = dict(table)
        for name in before:
            monkeypatch.setitem(table, name, before[name])
    yield
    for table in (BASELINES, METHODS, MODELS, DATASETS):
        for name in [n for n in table if n in ("wave", "gentle", "small-net") or "theirs" in n]:
            del table[name]
    sys.modules.pop("theirs_of_a_test", None)


@pytest.mark.parametrize(
    ("activation", "method", "model", "data"),
    [
        ("wave", "gentle", "small-net", "squares"),
        ("theirs_of_a_test:wave", "theirs_of_a_test:gentle", "theirs_of_a_test:small", "digits"),
    ],
)
def test_a_sweep_of_theirs(theirs, tmp_path, activation, method, model, data):
    folder = tmp_path / "sweep"
    words = [*SWEEP.split(), "--method", method, "--baselines", activation, "--model", model]
    assert main([*words, "--data", data, "--output", str(folder)]) == 0
    rows = [json.loads(path.read_text()) for path in folder.glob("members/*/row.json")]
    (row,) = [row for row in rows if row["beta"] is None]
    assert row["activation"] == activation
    assert row["max_curvature"] == pytest.approx(1)
    assert activation in (folder / "report.html").read_text()
    config = json.loads((folder / "config.json").read_text())
    assert config["train"]["method_options"] == ["strength=1"]
    network = load_network(folder / "members" / row["id"])
    assert (network.activation.text, network.model) == (activation, model)
    assert main(["report", str(folder)]) == 0
    member, file = str(folder / "members" / row["id"]), str(tmp_path / "weights.safetensors")
    assert main(["export", member, file]) == 0
    words = ["evaluate", file, "--data", data, "--epsilon", "0.1", "--pgd-steps", "1"]
    assert main([*words, "--output", str(tmp_path / "evaluation")]) == 0


def test_a_run_says_what_it_lacks_elsewhere(theirs, tmp_path, capsys):
    folder = tmp_path / "sweep"
    words = [*SWEEP.split(), "--method", "gentle", "--baselines", "wave", "--output", str(folder)]
    words += ["--model", "mlp-1x4"]
    assert main(words) == 0
    del BASELINES["wave"], METHODS["gentle"]
    sys.path.pop(0)
    sys.modules.pop("theirs_of_a_test")
    assert main(["report", str(folder)]) == 0  # the rows say what was measured
    assert "wave" in (folder / "report.html").read_text()
    capsys.readouterr()
    (member,) = folder.glob("members/wave*")
    assert main(["evaluate", str(member), "--pgd-steps", "1"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "unknown activation 'wave'" in error
    assert "a package that must be installed" in error
    assert main(words) == 2
    assert "unknown" in capsys.readouterr().err
    (other,) = folder.glob("members/rct-af*")
    assert main(["evaluate", str(other), "--pgd-steps", "1"]) == 0  # its method is not needed


def test_a_part_that_is_no_method_is_a_sentence(theirs, capsys):
    assert main([*SWEEP.split(), "--method", "theirs_of_a_test:number"]) == 2
    assert "is an int: it must be a rctaf_jax.training" in capsys.readouterr().err
    assert main([*SWEEP.split(), "--method", "theirs_of_a_test:nothing"]) == 2
    assert "theirs_of_a_test has no nothing" in capsys.readouterr().err
    assert main([*SWEEP.split(), "--model", "theirs_of_a_test:number"]) == 2
    assert "is an int: make it one by rctaf_jax.models.linen_model" in capsys.readouterr().err
    assert main([*SWEEP.split(), "--data", "theirs_of_a_test:wave"]) == 2
    assert "theirs_of_a_test:wave failed: TypeError" in capsys.readouterr().err
    assert main([*SWEEP.split(), "--data", "theirs_of_a_test:number"]) == 2
    assert "theirs_of_a_test:number failed" in capsys.readouterr().err


def test_dajat_of_theirs(theirs, tmp_path):
    """Each view has its own BatchNorm set, in a network of theirs too."""
    folder = tmp_path / "run"
    words = "train --model theirs_of_a_test:small --method dajat --data digits --num-train 32"
    words += " --num-test 20 --batch-size 16 --epochs 1 --pgd-steps 1 --epsilon 0.1 --output"
    assert main([*words.split(), str(folder)]) == 0
    assert load_network(folder).model == "theirs_of_a_test:small"
