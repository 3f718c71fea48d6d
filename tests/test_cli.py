"""The command as a user gives it: exit codes, one sentence on stderr, and what is left behind."""

import errno
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import rctaf_jax
from rctaf_jax.cli import main

TINY = ["--model", "mlp-1x8", "--epochs", "2", "--batch-size", "16"]
TINY += ["--num-train", "64", "--num-test", "40"]

TINY += ["--attack-steps", "1", "--step-size", "0.1", "--pgd-steps", "2"]
PGD = "evaluations/pgd-2x1-margin"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *TINY, "--epsilon", "25.5/255", "--output", str(folder)]) == 0
    return folder


def refusal(capsys, *words: str) -> str:
    """The one sentence a command is refused with."""
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rctaf: ")
    return lines[0]


def test_train_leaves_a_run(run):
    config = json.loads((run / "config.json").read_text())
    assert config["train"]["epsilon"] == 0.1
    assert config["activation"] == "rct-af:beta=1,alpha=14"
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 8
    result = json.loads((run / PGD / "evaluation.json").read_text())
    assert result["num_test"] == 40
    low, high = result["robust_interval"]
    assert low <= result["robust_accuracy"] <= high
    assert result["step"] == 8
    with np.load(run / PGD / "outcomes.npz") as outcomes:
        assert outcomes["robust"].sum() == result["robust_correct"]


def test_evaluate_again_gives_the_same(run, capsys):
    path = run / PGD / "evaluation.json"
    before = json.loads(path.read_text())
    path.unlink()
    assert main(["evaluate", str(run), "--pgd-steps", "2"]) == 0
    after = json.loads(path.read_text())
    assert before["robust_correct"] == after["robust_correct"]
    assert "95% interval" in capsys.readouterr().out


def test_hessian_by_layer(run, capsys):
    assert main(["hessian", str(run), "--method", "hutchinson", "--num-probes", "4"]) == 0
    result = json.loads((run / "hessian" / "hutchinson" / "hessian.json").read_text())
    assert result["num_parameters"] == sum(part["num_parameters"] for part in result["layers"])
    assert result["num_examples"] == 64
    assert "dense/kernel" in capsys.readouterr().out


ATTACK = ["--attacks", "apgd-ce", "square", "--num-examples", "6"]


def test_attack_leaves_verdicts_and_images_and_goes_on(run, tmp_path, capsys):
    words = ["attack", str(run), *ATTACK, "--output", str(tmp_path / "attack")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "apgd-ce" in printed
    assert "95% interval" in printed
    path = tmp_path / "attack" / "autoattack.json"
    result = json.loads(path.read_text())
    assert result["autoattack_acc"] == f"{100 * result['robust_accuracy']:.2f}"
    assert (result["eps"], result["dataset"][:6]) == ("0.1", "digits")
    assert [attack["name"] for attack in result["attacks"]] == ["apgd-ce", "square"]
    with np.load(path.with_suffix(".npz")) as arrays:
        assert arrays["robust"].sum() == result["robust_correct"]
        assert arrays["adversarial"].shape == (6, 8, 8, 1)
    seconds = result["attacks"][1]["seconds"]
    assert main(words) == 0
    again = json.loads(path.read_text())
    assert again["robust_correct"] == result["robust_correct"]
    assert again["attacks"][1]["seconds"] <= seconds * 1.5


def test_another_norm_needs_its_own_radius(run, tmp_path, capsys):
    words = ["attack", run, "--norm", "L2", "--output", tmp_path / "attack"]
    assert "trained for Linf, whose radius means nothing in L2: give" in refusal(capsys, *words)
    assert not (tmp_path / "attack").exists()


def test_attack_over_several_radii(run, tmp_path, capsys):
    """Each radius's verdicts are those of the attack with it alone, on the images that are left."""
    words = [
        "attack",
        str(run),
        "--attacks",
        "apgd-ce",
        "--num-examples",
        "8",
        "--attack-seed",
        "1",
    ]
    folder = tmp_path / "curve"
    assert main([*words, "--epsilon", "0.2", "1/255", "0.05", "--output", str(folder)]) == 0
    assert "1/255" in capsys.readouterr().out
    result = json.loads((folder / "curve.json").read_text())
    assert [row["eps"] for row in result["radii"]] == ["1/255", "0.05", "51/255"]
    counts = [row["robust_correct"] for row in result["radii"]]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] <= result["clean_correct"]
    with np.load(folder / "curve.npz") as arrays:
        assert arrays["robust"].sum(axis=1).tolist() == counts
        assert set(arrays["broken_at"]) <= {0, 1 / 255, 0.05, 0.2, np.inf}
    assert (folder / "curve.png").stat().st_size > 5000
    alone = tmp_path / "alone"
    assert main([*words, "--epsilon", "1/255", "--output", str(alone)]) == 0
    one = json.loads((alone / "autoattack.json").read_text())
    assert one["robust_correct"] == counts[0]
    assert sum(row["num_robust"] for row in one["by_class"]) == counts[0]


def test_autoattack_can_be_what_is_evaluated(run, monkeypatch):
    """A stand-in of two short attacks instead of the standard four, which take minutes."""
    from rctaf_jax.eval import make_apgd, make_square
    from rctaf_jax.eval.autoattack.versions import VERSIONS, Version

    short = (
        lambda norm, classes: make_apgd(norm=norm, loss="ce", num_steps=5),
        lambda norm, classes: make_square(norm=norm, num_queries=10),
    )
    monkeypatch.setitem(VERSIONS, "standard", Version({"Linf": short}))
    before = (run / PGD / "evaluation.json").read_text()
    assert main(["evaluate", str(run), "--attack", "autoattack"]) == 0
    result = json.loads((run / "evaluations" / "autoattack" / "evaluation.json").read_text())
    assert (run / PGD / "evaluation.json").read_text() == before
    assert result["attack"] == "AutoAttack, Linf 0.1"
    assert 0 <= result["robust_correct"] <= result["clean_correct"] <= 40


def test_activations_draws_and_lists(tmp_path, capsys):
    assert (
        main(["activations", "rct-af:beta=2,curvature=7", "mish", "--output", str(tmp_path)]) == 0
    )
    names = {path.name for path in tmp_path.iterdir()}
    pictures = ("activations", "second-derivatives")
    assert names == {f"{name}.{ending}" for name in pictures for ending in ("png", "svg")}
    output = capsys.readouterr().out
    assert "0.6442" in output
    assert "0.362" in output


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    words = ["activations", "mish", "--output", str(tmp_path)]
    assert main(words) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 4

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    capsys.readouterr()
    assert "No space left on device" in refusal(capsys, "activations", "gelu", *words[2:])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_reproduce_draws_and_its_report_is_written_again(tmp_path, capsys):
    folder = tmp_path / "figures"
    assert main(["reproduce", "figure-2", "--output", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "Figure 2: second derivatives of the family" in output
    page = (folder / "report.html").read_text()
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text() == page


def test_claims_of_a_sweep(capsys):
    """The digits sweep that comes with the repository."""
    assert main(["claims", str(Path(__file__).parents[1] / "results" / "digits")]) == 0
    output = capsys.readouterr().out
    assert "Robust accuracy is highest where" in output
    assert "not enough data" in output


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rctaf-jax {rctaf_jax.__version__}\n"


def test_data_says_what_it_is(capsys):
    assert main(["data", "digits"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "num train 1437 num test 360" in output
    assert "CC BY 4.0" in output


def test_a_finished_run_is_not_trained_again(run, capsys):
    before = (run / "metrics.jsonl").read_text()
    assert main(["train", *TINY, "--epsilon", "0.1", "--output", str(run)]) == 0
    assert (run / "metrics.jsonl").read_text() == before
    assert "going on from step 8 of 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "--epsilon", "-1"], "epsilon"),
        (["sweep", "--curvatures", "0"], "curvature"),
        (["sweep", "--betas", "-1"], "beta"),
        (["sweep", "--preset", "huge"], "digits, mnist-5k, cifar10-small, recipe"),
        (["sweep", "--data", "mnist"], "digits, digits-797, mnist-5k, cifar10, cifar100"),
        (["train", "--model", "resnet19", "--output", "/nonexistent/x"], "resnet18"),
        (["train", "--activation", "sine"], "rct-af"),
        (["train", "--method", "mixup"], "standard, pgd-at, trades"),
        (["train", "--batch-size", "100000"], "1437"),
        (["evaluate", "/nonexistent"], "/nonexistent is no run, no file and no package"),
        (["hessian", "/nonexistent"], "/nonexistent is no run, no file and no package"),
        (["attack", "/nonexistent"], "/nonexistent is no run, no file and no package"),
        (["attack", "/nonexistent", "--epsilon", "0"], "epsilon must be a positive number"),
        (["attack", "/nonexistent", "--epsilon", "0.1", "-1"], "epsilon must be a positive number"),
        (["attack", "/nonexistent", "--epsilon"], "epsilon is nothing: expected one radius"),
        (["attack", "/nonexistent", "--epsilon", "0.1", "0.1"], "expected one radius or more"),
        (["attack", "/nonexistent", "--version", "rand"], "choose standard or plus"),
        (["attack", "/nonexistent", "--version", "fast"], "unknown version 'fast'"),
        (["report", "/nonexistent"], "/nonexistent"),
        (["reproduce", "figure-9"], "choose from figure-1, figure-2"),
        (["reproduce", "figure-1", "--scale", "huge"], "digits, cpu, gpu, paper"),
        (["reproduce", "figure-6"], "figure-6 is not of scale digits"),
        (["reproduce", "figure-1", "--address", "HOST:1"], "give --engine ray too"),
        (["claims"], "no folder was named"),
        (["claims", "/nonexistent"], "/nonexistent is not a results folder"),
        (["train", "--method", "mart", "--method-options", "beta=6"], "its options are weight"),
        (["train", "--method", "dkl", "--attack-steps", "3"], "sets the steps itself"),
        (["train", "--method", "standard", "--budget", "high"], "no inner maximisation"),
        (["train", "--awp-epoch", "2"], "awp-epoch 2 without awp"),
        (["train", "--awp", "0.01", "--awp-epoch", "99"], "1 to 12"),
        (["train", "--batch-size", "2"], "cannot be shared equally by 4 devices"),
        (["train", "--method", "dajat", "--schedule", "step"], "no epochs at which"),
        (["train", "--step-size", "-0.1"], "step-size must be 0 or more"),
        (["train", "--step-size", "nan"], "step-size must be 0 or more"),
        (["train", "--seed", str(2**63)], "a seed has at most 64 bits"),
        (["sweep", "--seeds", str(2**63)], "a seed has at most 64 bits"),
        (["sweep", "--curvatures", "1e308"], "its alpha would be inf"),
        (["sweep", "--curvatures", "1e200"], "cannot be trained in float32, which holds an alpha"),
        (["train", "--activation", "rct-af:beta=1,alpha=1e-39"], "an alpha of 1.18e-38 to 3.4e+38"),
        (["train", "--evaluation-batch", "0"], "evaluation-batch must be a positive number"),
        (["activations", "rct-af:beta=1.5,alpha=2"], "beta"),
        (["data", "missing.npz"], "missing.npz"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(capsys, words, message):
    assert message in refusal(capsys, *words)


@pytest.mark.parametrize("words", [["sweep", "--curvatures", "7"], ["activations", "mish"]])
def test_a_place_that_cannot_be_written_is_one_sentence_and_exit_code_2(tmp_path, capsys, words):
    (tmp_path / "file").touch()
    sentence = refusal(capsys, *words, "--output", tmp_path / "file" / "folder")
    assert str(tmp_path / "file") in sentence
    assert "Not a directory" in sentence
    assert "another --output" in sentence


def test_a_full_disk_is_one_sentence_and_exit_code_2(tmp_path, capsys, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    sentence = refusal(capsys, "reproduce", "figure-1", "--output", tmp_path / "out")
    place = tmp_path / "out" / "reproduction.json"
    assert sentence.startswith(f"rctaf: {place}: No space left on device; choose a place")


@pytest.mark.parametrize("words", [["data", "digits"], ["train", "--help"]])
def test_it_ends_quietly_when_nobody_reads(words):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "rctaf_jax", *words]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize(
    "words", [["sweep", "--epsilon", "wide"], ["sweep", "--betas", "1.5"], ["dance"], []]
)
def test_words_that_do_not_parse_exit_with_2(capsys, words):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_damaged_run_is_refused_and_kept(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "config.json").write_text('{"data": ')
    assert "config.json" in refusal(capsys, "evaluate", copy)
    shutil.copy(run / "config.json", copy)
    for path in (copy / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    assert "the checkpoint of step 8" in refusal(capsys, "evaluate", copy)
    assert "the checkpoint of step 8" in refusal(
        capsys, "train", *TINY, "--epsilon", "0.1", "--output", copy
    )
    assert (copy / PGD / "outcomes.npz").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--method", "mart"], "this command "),
        (["--activation", "gelu"], "activation = rct-af:beta=1,alpha=14, this command gelu"),
    ],
)
def test_a_run_of_another_method_or_activation_is_refused(run, capsys, change, message):
    words = ["train", *TINY, "--epsilon", "0.1", *change, "--output", run]
    assert message in refusal(capsys, *words)


def test_weights_that_are_not_finite_are_not_called_trained(tmp_path, capsys):
    """One step of a huge rate: its loss is that of the weights before it."""
    words = ["train", *TINY, "--epochs", "1", "--num-train", "16"]
    words += ["--learning-rate", "1e30", "--weight-decay", "1e30"]
    message = refusal(capsys, *words, "--output", tmp_path / "run")
    assert "not finite at step 0" in message


def test_a_loss_that_is_not_finite_stops_and_says_where(tmp_path, capsys):
    words = [*TINY, "--learning-rate", "1e30", "--output", str(tmp_path / "run")]
    message = refusal(capsys, "train", *words)
    assert "the loss is not finite at step" in message
    assert "there is no checkpoint" in message
    assert (tmp_path / "run" / "config.json").exists()


def test_labels_out_of_range_are_refused(tmp_path, capsys):
    path = tmp_path / "bad.npz"
    np.savez(
        path,
        images=np.zeros((20, 8, 8, 1), np.uint8),
        labels=np.arange(20) - 1,
    )
    assert "label" in refusal(capsys, "sweep", "--data", path, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


COMMANDS = [
    "sweep",
    "train",
    "evaluate",
    "attack",
    "hessian",
    "report",
    "data",
    "reproduce",
    "claims",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: rctaf {command}" in capsys.readouterr().out


def test_interrupted_and_started_again(tmp_path):
    """Killed without warning in the middle of a sweep; the second run does the rest."""
    words = ["sweep", *TINY, "--betas", "1", "--curvatures", "1", "3", "9", "--probes", "2"]
    command = [sys.executable, "-m", "rctaf_jax", *words, "--output", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        seen = next(line for line in process.stdout if "robust" in line)
        process.kill()
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("members/*/row.json")}
    assert seen.split(":")[0] in {path.parent.name for path in done}
    assert len(done) < 8
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert f"{len(done)} of 8 members are done already" in again.stdout
    assert len(list((tmp_path / "out").glob("members/*/row.json"))) == 8
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert (tmp_path / "out" / "report.html").exists()


def interruption(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (KeyboardInterrupt(), None),
        (KeyboardInterrupt(), RuntimeError("what JAX was transforming")),
        (ImportError("initialization failed"), KeyboardInterrupt()),
    ],
)
def test_interrupted_wherever_it_is(capsys, monkeypatch, error, cause):
    def be_interrupted(words):
        raise interruption(error, cause)

    monkeypatch.setattr("rctaf_jax.experiments.command.parse.parse", be_interrupted)
    assert main(["data", "digits"]) == 130
    assert capsys.readouterr().err == (
        "rctaf: interrupted; give the same command again to go on.\n"
    )


def test_a_module_that_is_missing_is_no_interruption(monkeypatch):
    def lack(words):
        raise interruption(ImportError("no such module"), RuntimeError())

    monkeypatch.setattr("rctaf_jax.experiments.command.parse.parse", lack)
    with pytest.raises(ImportError, match="no such module"):
        main(["data", "digits"])


def test_a_warning_names_no_source_file(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    assert main(["data", "digits"]) == 0
    told = warnings.formatwarning(UserWarning("gradients are zero."), UserWarning, "pgd.py", 3)
    assert told == "rctaf: warning: gradients are zero.\n"
