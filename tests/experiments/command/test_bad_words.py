"""Words that nobody should give: a sentence and exit code 2, or the work begins; never a traceback.

Every flag of the commands that take numbers, names or files, with values of every wrong kind. The
work itself is replaced by a signal that it was reached, since some of the values are allowed.
"""

import dataclasses
import itertools
import random

import pytest
import tyro

from rctaf_jax.cli import main
from rctaf_jax.experiments.command import networks, studies
from rctaf_jax.experiments.command.schema import FLAGS

NUMBERS = (
    *("-1", "0", "-0", "0.5", "nan", "inf", "-inf", "1e400", "1e20", "1e-400", "1/0", "8/255/3"),
    *(str(2**70), "x", "", " ", "0x10", "1,5", "None", "True", "½", "٣", "1_0", "+", "-"),
)
WORDS = (
    *("", " ", "x", "None", "ü", "a\nb", "a" * 5000, "..", "/dev/null", "/proc/self/mem", "~"),
    *("~nosuchuser", "a:b", "os:system", "rctaf_jax:__version__", "rctaf_jax.cli:main", "a.b.c:d"),
    *("rct-af", "rct-af:beta=", "rct-af:beta=-1,alpha=2", "rct-af:beta=1,alpha=1e400", "gelu:x=1"),
    *("wrn-0-0", "wrn-10-99999999999999999999", "mlp-0x0", "mlp-1x-1", "resnet18 ", "RESNET18"),
    *("x.npz", "digits[train=3]", "trades=", "beta", "beta=x", "beta=-1", "--"),
)
PLACES = {"output", "defaults", "cluster", "engine", "source"}
"""Not here: where results go, and what has tests of its own."""


class ReachedError(Exception):
    """The work would begin now."""


def flags_of(config):
    """The flags of a command, those of the configurations within it included."""
    for field in dataclasses.fields(config):
        if field.name in PLACES:
            continue
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from flags_of(value)
        else:
            name = FLAGS.get(type(config), {}).get(field.name, field.name)
            yield f"--{name.replace('_', '-')}"


COMMANDS = {
    "train": networks.TrainCommand(networks.DataConfig(), networks.TrainConfig()),
    "sweep": studies.SweepCommand(studies.SweepConfig()),
    "evaluate": networks.EvaluateCommand(tyro.MISSING),
    "attack": networks.AttackCommand(tyro.MISSING),
    "hessian": networks.HessianCommand(tyro.MISSING),
}
BEFORE = {
    "train": ["--model", "mlp-1x2", "--num-train", "20", "--num-test", "10", "--batch-size", "4"],
    "sweep": ["--model", "mlp-1x2", "--num-train", "20", "--num-test", "10", "--batch-size", "4"],
}
MEASURED = ["bad_words_network:make", "--data", "digits", "--num-train", "20", "--num-test", "10"]
CASES = [
    [command, *BEFORE.get(command, MEASURED), flag, value]
    for command, config in COMMANDS.items()
    for flag, value in itertools.product(flags_of(config), (*NUMBERS, *WORDS))
]
SAMPLE = random.Random(0).sample(CASES, 60)


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    def reached(*arguments, **settings):
        raise ReachedError

    (tmp_path / "bad_words_network.py").write_text(
        "import jax.numpy as jnp\n"
        "def make():\n"
        "    return (lambda v, x: x.reshape(len(x), -1)[:, :10] * v['params']['w']), "
        "{'params': {'w': jnp.ones(10)}}\n"
    )
    monkeypatch.chdir(tmp_path)
    for place in (
        "run.train.train_run",
        "sweep.sweep.run_sweep",
        "run.evaluate.evaluate_network",
        "run.attack.attack_network",
        "run.hessian.hessian_of",
    ):
        monkeypatch.setattr(f"rctaf_jax.experiments.{place}", reached)

    def check(words):
        try:
            code = main(words)
        except ReachedError:
            capfd.readouterr()
            return "begun"
        except SystemExit as ended:
            code = ended.code
        said = capfd.readouterr()
        assert code == 2, words
        assert "Traceback" not in said.err + said.out, words
        assert said.err.strip(), words
        if said.err.startswith("rctaf:"):
            assert said.err.count("\n") <= 1 + len(said.err) // 40, words
        assert len(said.err) < 5000, words
        assert not any(tmp_path.glob("runs/**/config.json")), words
        return "refused"

    return check


def test_a_sample_of_bad_words(run):
    assert {run(words) for words in SAMPLE} == {"begun", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_all_bad_words(command, run):
    outcomes = {run(words) for words in CASES if words[0] == command}
    assert outcomes == {"begun", "refused"}
