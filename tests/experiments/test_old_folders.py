"""Folders that an older version wrote open, report and go on.

`data/folders-0.1.0.tar.xz` holds a run with its attack and its Hessian and a sweep, as the last
version wrote them that called `num_probes` of a sweep `probes` and kept `evaluation.json` in the
run's own folder; without pictures and pages. The committed `results/` are older still.
"""

import json
import shutil
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

from rctaf_jax.cli import main
from rctaf_jax.config import RunConfig, SweepConfig, ValidationConfig
from rctaf_jax.experiments import load
from rctaf_jax.experiments.results.config_file import ABSENT, RENAMED, read_config, renewed

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).parent / "data" / "folders-0.1.0.tar.xz"
TRAIN = "--num-train 32 --num-test 20 --model mlp-1x4 --batch-size 16 --epsilon 0.2 --epochs 2"
TRAIN += " --attack-steps 1 --step-size 0.1 --pgd-steps 2"
SWEEP = f"{TRAIN} --betas 1 --curvatures 7 --baselines relu --seeds 0 1 --probes 4"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the folders were written; sums of a Hessian belong to no number of devices."""
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: device)
    monkeypatch.setattr(jax, "local_devices", lambda *_, **__: device)


def run(words: str) -> int:
    return main(words.split())


@pytest.mark.usefixtures("on_one_device")
def test_a_run_goes_on_and_is_measured_again(old: Path, capsys: pytest.CaptureFixture) -> None:
    folder = old / "run"
    kept = {path: path.read_bytes() for path in folder.glob("*.*")}
    assert run(f"train {TRAIN} --output {folder}") == 0
    assert "going on from step 4 of 4" in capsys.readouterr().out
    assert run(f"evaluate {folder} --pgd-steps 3") == 0
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == kept
    assert (folder / "evaluations" / "pgd-3x1-margin" / "evaluation.json").is_file()


@pytest.mark.usefixtures("on_one_device")
def test_an_attack_and_a_hessian_go_on(old: Path, capsys: pytest.CaptureFixture) -> None:
    folder = old / "run"
    before = json.loads((folder / "autoattack" / "autoattack.json").read_text())
    groups = {path: path.read_bytes() for path in folder.glob("autoattack/1-*/*.npz")}
    assert run(f"attack {folder} --attacks apgd-ce --num-examples 4") == 0
    after = json.loads((folder / "autoattack" / "autoattack.json").read_text())
    assert after["robust_correct"] == before["robust_correct"]
    assert {path: path.read_bytes() for path in folder.glob("autoattack/1-*/*.npz")} == groups
    capsys.readouterr()
    assert run(f"hessian {folder} --method hutchinson --num-probes 6") == 0
    assert "6 probes to do, 4 of them done." in capsys.readouterr().out


@pytest.mark.usefixtures("on_one_device")
def test_a_sweep_reports_and_trains_what_it_lacks(old: Path, capsys: pytest.CaptureFixture) -> None:
    folder = old / "sweep"
    assert run(f"report {folder}") == 0
    assert run(f"claims {folder}") == 0
    shutil.rmtree(folder / "members" / "relu-seed1")
    done = {path: path.stat().st_mtime_ns for path in folder.glob("members/*/row.json")}
    assert len(done) == 3
    capsys.readouterr()
    assert run(f"sweep {SWEEP} --output {folder}") == 0
    assert "3 of 4 members are done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(load(folder)) == 4
    assert run(f"evaluate {folder / 'members' / 'relu-seed0'} --pgd-steps 2") == 0


def test_what_is_another_configuration_still_is(old: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(f"sweep {SWEEP} --probes 6 --output {old / 'sweep'}") == 2
    assert "says hessian.num_probes = 4, this command 6" in capsys.readouterr().err
    assert run(f"train {TRAIN} --awp 0.01 --output {old / 'run'}") == 2
    assert "says train.awp = 0.0, this command 0.01" in capsys.readouterr().err


STUDIES = sorted(path.parent.parent.parent for path in ROOT.glob("results/**/members/*/row.json"))


@pytest.mark.parametrize("folder", sorted(set(STUDIES)), ids=lambda p: str(p.relative_to(ROOT)))
def test_committed_results_open(folder: Path) -> None:
    """Some of them lack keys, which mean what was the default then."""
    config = read_config(folder, SweepConfig)
    assert config.train.budget is not None
    frame = load(folder)
    assert len(frame) == len(list(folder.glob("members/*/row.json")))
    assert np.isfinite(frame[frame.status == "done"].robust_correct).all()


def test_a_key_that_an_older_folder_lacks_is_its_default_then() -> None:
    lacking = json.loads((ROOT / "results" / "cifar10-small" / "config.json").read_text())
    sections = {name.split(".")[0] for name in ABSENT}
    assert not {name for name in ABSENT if _has(lacking, name)}
    now = renewed(lacking)
    for name, meaning in ABSENT.items():
        section, key = name.split(".")
        assert now[section][key] == meaning
    assert sections == {"data", "train", "evaluation"}
    for before, after in RENAMED.items():
        assert _has(lacking, before)
        assert _has(now, after)
        assert not _has(now, before)


def test_a_run_of_the_committed_results_opens() -> None:
    narrow = read_config(ROOT / "results" / "cifar10-trades-narrow", RunConfig)
    assert narrow.train.method_options == ("beta=6",)
    assert narrow.validation == ValidationConfig()


def _has(config: dict, name: str) -> bool:
    section, key = name.split(".")
    return key in config[section]
