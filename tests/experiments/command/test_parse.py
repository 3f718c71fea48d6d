"""From words to configurations: which flag sets which field, whatever the preset."""

import dataclasses
import json

import pytest

from rctaf_jax.config import (
    DataConfig,
    DiagonalConfig,
    EvaluationConfig,
    HessianConfig,
    RunConfig,
    SweepConfig,
    TrainConfig,
    ValidationConfig,
)
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.command.parse import parse, value_of
from rctaf_jax.experiments.command.schema import FLAGS, field_helps
from rctaf_jax.experiments.sweep.presets import PRESETS


def test_without_a_flag_a_sweep_is_the_preset():
    """Plain configurations, of no class of the command line's own."""
    assert parse(["sweep"]).config == PRESETS["digits"]
    assert parse(["sweep", "--data", "cifar10"]).config == PRESETS["recipe"]
    assert parse(["sweep", "--preset", "cifar10-small"]).config == PRESETS["cifar10-small"]


def test_flags_that_are_not_called_as_their_fields():
    words = "--data mine.npz --evaluation-batch 7 --probes 4 --hessian-examples 5 --hessian-batch 6"
    config = parse(["sweep", *words.split(), "--batch-size", "3"]).config
    assert config.data == DataConfig(name="mine.npz")
    assert config.hessian == HessianConfig(num_probes=4, num_examples=5, batch_size=6)
    assert (config.evaluation.batch_size, config.train.batch_size) == (7, 3)
    attack = parse(
        ["attack", "runs/x", "--attack-batch", "9", "--attack-seed", "2", "--epsilon", "4/255"]
    ).attack
    assert (attack.batch_size, attack.seed, attack.epsilon) == (9, 2, (4 / 255,))
    words = "hessian runs/x --num-probes 8 --num-examples 9 --batch-size 10 --seed 1 --until 1/20"
    expected = DiagonalConfig(num_probes=8, num_examples=9, batch_size=10, seed=1, until=0.05)
    assert parse(words.split()).hessian == expected


def test_numbers_are_fractions_wherever_they_are(capsys):
    config = parse(
        ["sweep", "--epsilon", "8/255", "--curvatures", "1/2", "7", "--step-size", "1e-3"]
    ).config
    assert (config.train.epsilon, config.train.step_size) == (8 / 255, 1e-3)
    assert config.curvatures == (0.5, 7.0)
    with pytest.raises(SystemExit) as ended:
        parse(["sweep", "--epsilon", "eight"])
    assert ended.value.code == 2
    assert "'eight' is not a number" in capsys.readouterr().err


def test_another_method_has_its_own_inner_maximisation():
    train = parse(["train", "--method", "dajat"]).train
    assert (train.attack_steps, train.step_size) == (None, None)
    assert parse(["train"]).train.attack_steps == 5


@pytest.mark.parametrize("config", FLAGS)
def test_every_flag_has_help_and_every_name_is_a_field(config):
    fields = {field.name for field in dataclasses.fields(config)}
    assert set(FLAGS[config]) <= fields == set(field_helps(config))


def test_help_says_what_flags_are(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(["sweep", "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("--hessian-examples", "At most so many training images", "NUMBER", "--retrain"):
        assert text in shown


def test_the_value_of_a_flag():
    assert value_of("--data", ["sweep", "--data"]) is None
    assert value_of("--data-dir", ["sweep", "--data_dir=x"]) == "x"


RUN = RunConfig(
    DataConfig("digits", num_train=64),
    TrainConfig(model="mlp-1x4", method="trades", method_options=("beta=3",), epochs=5),
    "rct-af:beta=1,alpha=14",
    7,
    ValidationConfig(20, every=2),
)
SWEEP = SweepConfig(train=TrainConfig(epochs=3), betas=(1,), curvatures=(4.0,), seeds=(5,))


def saved(folder, config):
    folder.mkdir(exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(dataclasses.asdict(config)))
    return path


def test_a_configuration_is_a_default(tmp_path):
    """Of a run or a sweep, its file or its folder, for train and for sweep; flags win over it."""
    run, sweep = saved(tmp_path / "run", RUN), saved(tmp_path / "sweep", SWEEP)
    for file in (run, run.parent):
        train = parse(["train", "--config", str(file)])
        assert (train.data, train.train) == (RUN.data, RUN.train)
        assert (train.activation, train.seed) == (RUN.activation, RUN.seed)
        assert train.validation == RUN.validation
    changed = parse(["train", "--config", str(run), "--epochs", "2", "--seed", "8"])
    assert changed.train == dataclasses.replace(RUN.train, epochs=2)
    assert changed.seed == 8
    assert parse(["sweep", f"--config={sweep}"]).config == SWEEP
    assert parse(["sweep", "--config", str(run)]).config.train == RUN.train
    assert parse(["train", "--config", str(sweep)]).train == SWEEP.train
    other = parse(["train", "--config", str(run), "--method", "mart"]).train
    assert (other.method, other.method_options, other.epochs) == ("mart", (), 5)


def test_a_configuration_is_a_default_of_measuring_too(tmp_path):
    """Its images, radius and numbers; what it does not say stays as without it."""
    run = str(saved(tmp_path / "run", RUN))
    evaluate = parse(["evaluate", "w.npz", "--config", run, "--num-test", "9"])
    assert evaluate.source == "w.npz"
    assert evaluate.network.images == dataclasses.replace(RUN.data, num_test=9)
    assert (evaluate.norm, evaluate.epsilon) == (RUN.train.norm, RUN.train.epsilon)
    assert evaluate.evaluation == parse(["evaluate", "w.npz"]).evaluation
    attack = parse(["attack", "w.npz", "--config", run, "--epsilon", "0.5"])
    assert (attack.network.data, attack.attack.epsilon) == ("digits", (0.5,))
    assert attack.attack.norm == "Linf"
    hessian = parse(["hessian", "w.npz", "--config", run])
    assert hessian.hessian == parse(["hessian", "w.npz"]).hessian
    config = dataclasses.replace(
        SWEEP,
        evaluation=EvaluationConfig(pgd_steps=3),
        hessian=HessianConfig(num_probes=5, batch_size=7),
    )
    sweep = str(saved(tmp_path / "sweep", config))
    assert parse(["evaluate", "w.npz", "--config", sweep]).evaluation.pgd_steps == 3
    diagonal = parse(["hessian", "w.npz", "--config", sweep, "--num-probes", "6"]).hessian
    assert (diagonal.num_probes, diagonal.batch_size) == (6, 7)
    assert parse(["evaluate", "w.npz"]).network.images is None
    assert parse(["export", "w.npz", "w.jax", "--config", run]).network.images == RUN.data
    assert parse(["data", "--config", run]).name == "digits"
    there = dataclasses.replace(RUN, data=dataclasses.replace(RUN.data, data_dir="/there"))
    config = ["--config", str(saved(tmp_path / "there", there))]
    assert parse(["reproduce", "figure-1", *config]).data_dir == "/there"
    assert parse(["reproduce", "figure-1", *config]).names == ("figure-1",)
    assert parse(["data", "cifar10", *config]).data_dir == "/there"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "configuration of no run and no sweep: it has the keys nothing"),
        ('{"a": 1}', "it has the keys a"),
        ("[", "config.json"),
        (json.dumps({**dataclasses.asdict(RUN), "seed": "x"}), 'seed = "x"'),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        parse(["train", "--config", str(path)])


def test_one_source_of_defaults(tmp_path):
    path = saved(tmp_path, RUN)
    with pytest.raises(InputError, match="give one of them"):
        parse(["train", "--config", str(path), "--preset", "digits"])
    with pytest.raises(InputError, match=r"nowhere\.json"):
        parse(["sweep", "--config", str(tmp_path / "nowhere.json")])
