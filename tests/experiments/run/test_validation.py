"""A run that is measured on images it holds out: the same bits, the best kept, patience."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from rctaf_jax.cli import main
from rctaf_jax.config import DataConfig, RunConfig, TrainConfig, ValidationConfig
from rctaf_jax.data import hold_out, load_data
from rctaf_jax.errors import InputError, Preempted
from rctaf_jax.experiments.results.training_log import TrainingLine, ValidationLine, read_log
from rctaf_jax.experiments.run import train, validation
from rctaf_jax.experiments.run.folder import Run, resolve_run
from rctaf_jax.experiments.run.measure import ImageOutcomes
from rctaf_jax.experiments.run.network import load_network, open_run
from rctaf_jax.experiments.run.train import train_run
from rctaf_jax.training.one_call import train as train_in_one_call

TRAIN = TrainConfig(
    model="mlp-1x8",
    epsilon=0.1,
    attack_steps=1,
    step_size=0.1,
    epochs=6,
    batch_size=16,
    averaging=0.9,
)
DATA = DataConfig(num_train=90, num_test=20)
CONFIG = RunConfig(DATA, TrainConfig(**dataclasses.asdict(TRAIN)), "gelu", 3, ValidationConfig(40))
STEPS = 3
"""Of an epoch: 50 images are left."""


def run_in(folder: Path, config: RunConfig = CONFIG) -> Run:
    return train_run(resolve_run(config), folder, "", Console(quiet=True), seconds_per_save=0.0)


def assert_same(one: object, other: object) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


def validated(folder: Path) -> list[tuple[int, float, float]]:
    lines = read_log(folder / "metrics.jsonl")
    return [
        (line.step, line.validation_clean, line.validation_robust)
        for line in lines
        if isinstance(line, ValidationLine)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("validation") / "run"
    run_in(place)
    return place


def set_robust(monkeypatch: pytest.MonkeyPatch, counts: Sequence[int]) -> None:
    """Let the networks after each epoch, in turn, withstand the attack on so many images."""

    def make(*_: object) -> Callable:
        def evaluate(variables: object, split: object) -> ImageOutcomes:
            robust = np.arange(40) < next(answers)
            return ImageOutcomes(np.ones(40, bool), robust, np.zeros(40, bool))

        answers = iter(counts)
        return evaluate

    monkeypatch.setattr(validation, "make_evaluate", make)


def test_it_trains_what_training_on_the_rest_alone_trains(folder: Path) -> None:
    kept = hold_out(load_data(DATA), 40).dataset
    alone = train_in_one_call(
        dataset=kept, activation="gelu", seed=3, **dataclasses.asdict(CONFIG.train)
    )
    assert_same(alone.variables, load_network(folder).variables)
    assert json.loads((folder / "data.json").read_text())["num_train"] == 50


def test_accuracies_are_those_of_the_evaluated_network_on_the_images_held_out(folder: Path) -> None:
    """After the last epoch, counted here; the averaged weights are other ones."""
    network, as_trained, _ = open_run(folder)
    images, labels = hold_out(load_data(DATA), 40).validation
    pixels = images.astype(np.float32) / 255
    correct = np.asarray(network(pixels)).argmax(1) == labels
    steps = [step for step, _, _ in validated(folder)]
    _, clean, robust = validated(folder)[-1]
    assert steps == [STEPS * epoch for epoch in range(1, 7)]
    assert clean == correct.mean()
    assert 0 <= robust <= clean
    assert not np.array_equal(
        jax.tree.leaves(as_trained["params"])[0], jax.tree.leaves(network.variables["params"])[0]
    )


def test_every_second_epoch_and_the_last(tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG,
        train=dataclasses.replace(CONFIG.train, epochs=5),
        validation=ValidationConfig(40, every=2),
    )
    run_in(tmp_path / "run", config)
    assert [step for step, _, _ in validated(tmp_path / "run")] == [6, 12, 15]


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_an_interrupted_run_ends_with_the_same_bits(
    stop_after: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, accuracies, the best; each step once in the log."""
    place = tmp_path / "run"
    answers = itertools.chain([False] * stop_after, [True], itertools.repeat(False))

    class Watching:
        def __enter__(self) -> Callable[[], bool]:
            return lambda: next(answers)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(train, "watch_for_termination", Watching)
    with pytest.raises(Preempted):
        run_in(place)
    run_in(place)
    assert validated(place) == validated(folder)
    for checkpoint in ("last", "best"):
        one, other = (open_run(each, checkpoint).network for each in (place, folder))
        assert one.facts["step"] == other.facts["step"]
        assert_same(one.variables, other.variables)
    lines = read_log(place / "metrics.jsonl")
    steps = [line.step for line in lines if isinstance(line, TrainingLine)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 6 * STEPS


def test_a_run_killed_between_its_best_and_its_checkpoint_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best is of an epoch that is trained again."""
    place = tmp_path / "run"

    class KilledError(Exception):
        pass

    def killed(self: object, line: object, *, is_written: bool) -> None:
        if isinstance(line, ValidationLine) and line.step >= 2 * STEPS:
            raise KilledError
        true(self, line, is_written=is_written)

    true = validation.TrainingLog.add
    with monkeypatch.context() as patched:
        patched.setattr(validation.TrainingLog, "add", killed)
        with pytest.raises(KilledError):
            run_in(place)
    run_in(place)
    assert validated(place) == validated(folder)
    one, other = (open_run(each, "best").network for each in (place, folder))
    assert one.facts["step"] == other.facts["step"]
    assert_same(one.variables, other.variables)


def test_the_best_is_the_first_of_the_most_robust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_robust(monkeypatch, [3, 9, 7, 9, 8, 2])
    place = tmp_path / "run"
    run_in(place)
    best, last = open_run(place, "best").network, open_run(place).network
    assert (best.facts["step"], last.facts["step"]) == (2 * STEPS, 6 * STEPS)
    assert len([*(place / "best" / "checkpoints").iterdir()]) == 1
    kept = hold_out(load_data(DATA), 40).dataset
    told = []
    train_in_one_call(
        dataset=kept,
        activation="gelu",
        seed=3,
        callbacks=[lambda report: told.append(report.network)],
        **dataclasses.asdict(CONFIG.train),
    )
    assert_same(best.variables, told[1].variables)
    assert open_run(place, "best").as_trained is not None


def test_patience_ends_training_and_the_run_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, validation=ValidationConfig(40, patience=2))
    place = tmp_path / "run"
    set_robust(monkeypatch, [3, 9, 7, 9])  # a fifth would raise
    ended = run_in(place, config)
    assert int(ended.state.step) == 4 * STEPS
    set_robust(monkeypatch, [])
    again = run_in(place, config)
    assert_same(again.state, ended.state)
    assert [step for step, _, _ in validated(place)] == [3, 6, 9, 12]


def test_patience_counts_the_same_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(CONFIG, validation=ValidationConfig(40, patience=3))
    place = tmp_path / "run"
    set_robust(monkeypatch, [3, 9, 7])
    with pytest.raises(StopIteration):  # as if killed in the fourth epoch
        run_in(place, config)
    set_robust(monkeypatch, [8, 1])
    assert int(run_in(place, config).state.step) == 5 * STEPS


WORDS = "train --model mlp-1x8 --num-train 90 --num-test 20 --batch-size 16 --epochs 2"
WORDS += " --attack-steps 1 --step-size 0.1 --pgd-steps 1 --epsilon 0.1"


def test_the_command_keeps_the_best_and_measures_it_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    assert main([*WORDS.split(), "--validation", "20", "--output", str(run)]) == 0
    said = capsys.readouterr().out
    assert "20 training images are held out." in said
    assert "robust %" in said
    assert "rctaf evaluate takes it with --checkpoint best." in said
    for name in ("training.png", "training.svg"):
        assert (run / name).stat().st_size > 1000
    best = ["--checkpoint", "best"]
    last = {path: path.read_bytes() for path in run.glob("evaluations/*/*")}
    assert main(["evaluate", str(run), "--pgd-steps", "1", *best]) == 0
    assert {path: path.read_bytes() for path in run.glob("evaluations/*/*")} == last
    found = run / "best" / "evaluations" / "pgd-1x1-margin" / "evaluation.json"
    step = open_run(run, "best").network.facts["step"]
    assert json.loads(found.read_text())["step"] == step
    assert main(["hessian", str(run), "--method", "neuron", *best]) == 0
    (hessian,) = run.glob("best/hessian/*/hessian.json")
    assert json.loads(hessian.read_text())["num_examples"] == 70  # trained on
    words = ["attack", str(run), "--attacks", "apgd-ce", "--num-examples", "4", *best]
    assert main(words) == 0
    assert (run / "best" / "autoattack" / "autoattack.json").is_file()
    file = tmp_path / "best.npz"
    assert main(["export", str(run), str(file), *best]) == 0
    assert_same(
        jax.device_get(load_network(file).variables),
        jax.device_get(load_network(run, checkpoint="best").variables),
    )
    capsys.readouterr()
    assert main(["evaluate", str(file), "--data", "digits", "--epsilon", "0.1", *best]) == 2
    assert "is no run, and has no best checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--validation 90", "validation 90 of the 90 training images"),
        ("--validation 1000000", "validation 1000000 of the 90 training images"),
        ("--validation 9", "validation 9 of the 90 training images"),
        ("--validation 89", "would take all training images of class"),
        ("--validation 80", "larger than the 10 training images"),
        ("--validation -1", "validation must be a number of images"),
        ("--patience 3", "patience 3 without a validation"),
        ("--validate-every 2", "validate-every 2 without a validation"),
        ("--validation 20 --patience 0", "patience must be a positive number"),
        ("--validation 20 --patience -1", "patience must be a positive number"),
        ("--validation 20 --validate-every 0", "validate-every must be a positive number"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([*WORDS.split(), *words.split(), "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_without_validation_has_no_best(tmp_path: Path) -> None:
    run_in(tmp_path / "run", dataclasses.replace(CONFIG, validation=ValidationConfig()))
    assert not (tmp_path / "run" / "best").exists()
    with pytest.raises(InputError, match="has no best checkpoint, since it held no images out"):
        open_run(tmp_path / "run", "best")
    with pytest.raises(InputError, match="unknown checkpoint 'first': choose one of last, best"):
        load_network(tmp_path / "run", checkpoint="first")
