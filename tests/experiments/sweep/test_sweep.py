"""A whole sweep, as small as it can be: an MLP on a few digits."""

import contextlib
import dataclasses
import io
import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

from rctaf_jax.config import DataConfig, EvaluationConfig, HessianConfig, SweepConfig, TrainConfig
from rctaf_jax.errors import InputError, Preempted
from rctaf_jax.experiments.pages.sweep_page import write_report
from rctaf_jax.experiments.results.rows import load_results
from rctaf_jax.experiments.results.studies import open_study
from rctaf_jax.experiments.run.folder import claim_folder
from rctaf_jax.experiments.run.network import load_network
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.experiments.sweep import family as families
from rctaf_jax.experiments.sweep import member_folder
from rctaf_jax.experiments.sweep import sweep as module
from rctaf_jax.experiments.sweep.members import SweepMember, by_family, expand, groups_of
from rctaf_jax.experiments.sweep.setup import open_sweep, resolve_sweep
from rctaf_jax.experiments.sweep.sweep import run_members, run_sweep

SMALL = SweepConfig(
    data=DataConfig(num_train=64, num_test=40),
    train=TrainConfig(model="mlp-1x8", epsilon=0.1, attack_steps=1, epochs=3, batch_size=16),
    evaluation=EvaluationConfig(pgd_steps=2, batch_size=40),
    hessian=HessianConfig(num_probes=4, batch_size=64),
    betas=(1,),
    curvatures=(1.0, 7.0),
    seeds=(0, 1),
)
COMMAND = "rctaf sweep --small"


def sweep(config: SweepConfig, folder: Path) -> str:
    output = io.StringIO()
    resolved = resolve_sweep(config)
    with SweepProgress(Console(file=output, width=100)) as progress:
        run_sweep(resolved, folder, COMMAND, progress)
    return output.getvalue()


def sweep_some(members: Sequence[SweepMember], folder: Path, num_devices: int = 4) -> None:
    """Train and measure some members of the small sweep."""
    opened = open_sweep(resolve_sweep(SMALL), folder, COMMAND)
    opened = opened._replace(devices=opened.devices[:num_devices])
    with SweepProgress(Console(file=io.StringIO())) as progress:
        run_members(opened, members, progress)


def told_to_stop(should_stop: Callable[[], bool]) -> Any:
    """A `watch_for_termination` with that answer."""

    @contextlib.contextmanager
    def watch():
        yield should_stop

    return watch


def interrupted(
    members: Sequence[SweepMember], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """Start to train some members; the step after which they were told to stop."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "watch_for_termination", told_to_stop(lambda: True))
        with pytest.raises(Preempted) as stopped:
            sweep_some(members, folder)
    assert stopped.value.step > 0
    return stopped.value.step


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "results"
    sweep(SMALL, folder)
    return folder


def rows_of(folder: Path) -> dict[str, dict]:
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(folder.glob("members/*/row.json"))
    }


def without_times(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_every_member_has_its_row_its_outcomes_and_its_weights(folder):
    rows = rows_of(folder)
    assert set(rows) == {member.id for member in expand(SMALL)}
    assert len(rows) == 6
    for name, row in rows.items():
        member = folder / "members" / name
        assert row["status"] == "done"
        with np.load(member / "outcomes.npz") as outcomes:
            assert outcomes["robust"].sum() == row["robust_correct"]
            assert outcomes["clean_correct"].sum() == row["clean_correct"]
            assert (outcomes["clean_correct"] >= outcomes["robust"]).all()
        assert row["num_test"] == 40
        assert row["hessian"]["num_parameters"] == 64 * 8 + 8 + 8 * 10 + 10
        assert len(row["hessian"]["layers"]) == 4
        assert any((member / "checkpoints").iterdir())
    assert not (folder / "unfinished").exists()
    assert rows["relu-seed0"]["max_curvature"] == "inf"
    assert rows["rct-af-beta1-curvature7-seed1"]["alpha"] == 14.0


def test_members_differ_by_seed_and_curvature(folder):
    hessians = {row["hessian"]["mean_square"] for row in rows_of(folder).values()}
    assert len(hessians) == 6


def test_the_folder_says_where_it_comes_from(folder):
    for place in (folder, folder / "members" / "relu-seed0"):
        environment = json.loads((place / "environment.json").read_text())
        assert environment["command"] == COMMAND
        assert environment["device"] == "cpu x 4"
        assert environment["versions"]["jax"] == jax.__version__
    data = json.loads((folder / "data.json").read_text())
    assert (data["num_train"], data["num_test"]) == (64, 40)
    config = json.loads((folder / "config.json").read_text())
    assert config["train"]["learning_rate"] == 0.1
    # There is no first epoch of a weight perturbation that is not asked for, and no mean of pixels.
    missing = [name for name, value in config["train"].items() if value is None]
    assert missing == ["mean", "std", "awp_epoch"]


def test_the_report_is_complete(folder):
    results = load_results(folder)
    assert (len(results.rows), results.num_expected, list(results.missing)) == (6, 6, [])
    report = write_report(open_study(folder)).read_text()
    assert "6 of 6 members" in report
    assert COMMAND in report
    assert "Where networks were trained" not in report


def test_started_again_it_does_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("row.json")}
    assert "6 of 6 members are done already" in sweep(SMALL, folder)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("row.json")}


def test_only_what_is_missing_is_done_and_comes_out_the_same(folder, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(folder, copy)
    lost = "rct-af-beta1-curvature7-seed0"
    shutil.rmtree(copy / "members" / lost)
    kept = {p: p.stat().st_mtime_ns for p in copy.rglob("row.json")}
    output = sweep(SMALL, copy)
    assert "5 of 6 members are done already" in output
    assert lost in output
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    again, first = rows_of(copy)[lost], rows_of(folder)[lost]
    assert without_times(again) == without_times(first)


FAMILY = by_family(expand(SMALL))[0]


@pytest.mark.parametrize(("then", "num_devices"), [(FAMILY[:1] + FAMILY[2:], 4), (FAMILY[:2], 2)])
def test_a_checkpoint_of_another_group_or_of_other_devices_is_not_taken(
    folder, tmp_path, monkeypatch, then, num_devices
):
    interrupted(FAMILY[:2], tmp_path / "results", monkeypatch)
    sweep_some(then, tmp_path / "results", num_devices)
    left = FAMILY[1:2] if len(then) > 2 else []
    assert len(list((tmp_path / "results").glob("unfinished/*/members.json"))) == len(left)
    sweep_some(FAMILY[:2], tmp_path / "results")
    rows, first = rows_of(tmp_path / "results"), rows_of(folder)
    assert set(rows) == {member.id for member in [*FAMILY[:2], *then]}
    for name, row in rows.items():
        assert without_times(row) == without_times(first[name])
    assert not (tmp_path / "results" / "unfinished").exists()


def test_a_group_goes_on_from_its_own_checkpoint(folder, tmp_path, monkeypatch):
    results = tmp_path / "results"
    step = interrupted(FAMILY[:2], results, monkeypatch)
    stray = results / "unfinished" / "half-a-member"
    stray.mkdir()
    relu = by_family(expand(SMALL))[1]
    sweep_some(relu, results)
    (kept,) = (results / "unfinished").iterdir()
    assert json.loads((kept / "members.json").read_text()) == {
        "members": [member.id for member in FAMILY[:2]],
        "devices": 4,
        "per_device": 1,
    }
    steps = []
    monkeypatch.setattr(SweepProgress, "step", lambda self, step, *_: steps.append(step))
    sweep_some(FAMILY[:2], results)
    assert steps[0] == step + 1
    rows, first = rows_of(results), rows_of(folder)
    assert len(rows) == 4
    assert all(without_times(row) == without_times(first[name]) for name, row in rows.items())
    assert not (results / "unfinished").exists()


def test_told_to_stop_while_it_measures_it_stops_after_that_member(tmp_path, monkeypatch):
    measured, true_measure = [], families.measure

    def measure(sweep, programs, member, *rest):
        measured.append(member.id)
        return true_measure(sweep, programs, member, *rest)

    monkeypatch.setattr(module, "watch_for_termination", told_to_stop(lambda: bool(measured)))
    monkeypatch.setattr(families, "measure", measure)
    with pytest.raises(Preempted, match="what is done is kept"):
        sweep_some(FAMILY, tmp_path / "results")
    assert list(rows_of(tmp_path / "results")) == measured == [FAMILY[0].id]


@pytest.mark.parametrize("lacks", ["outcomes.npz", "row.json"])
def test_a_member_that_lacks_a_file_is_trained_again(folder, tmp_path, lacks):
    copy = tmp_path / "results"
    shutil.copytree(folder, copy)
    lost = copy / "members" / "relu-seed1"
    (lost / lacks).unlink()
    shutil.rmtree(lost / "checkpoints")
    shutil.copytree(folder / "members" / "relu-seed0" / "checkpoints", lost / "checkpoints")
    assert "5 of 6 members are done already" in sweep(SMALL, copy)
    assert (lost / "outcomes.npz").exists()
    states = [load_network(place / "members" / "relu-seed1").variables for place in (copy, folder)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    again, first = rows_of(copy)["relu-seed1"], rows_of(folder)["relu-seed1"]
    assert without_times(again) == without_times(first)


@pytest.mark.parametrize("text", ['{"id": "relu', "{}", "[" * 100_000])
def test_damaged_is_not_missing(folder, tmp_path, text):
    """A row that cannot be read stops the sweep before any training."""
    copy = tmp_path / "results"
    shutil.copytree(folder, copy)
    damaged = copy / "members" / "relu-seed1" / "row.json"
    damaged.write_text(text)
    shutil.rmtree(copy / "members" / "relu-seed0")
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    with pytest.raises(
        InputError, match=r"relu-seed1/row.json (is damaged|lacks id|is nested).*; --retrain trains"
    ):
        sweep(SMALL, copy)
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


@pytest.mark.parametrize("file", ["row.json", "outcomes.npz"])
def test_damaged_is_trained_again_on_request_alone(folder, tmp_path, file):
    """What was damaged is kept aside; nothing else is trained again."""
    copy = tmp_path / "results"
    shutil.copytree(folder, copy)
    (copy / "members" / "relu-seed1" / file).write_bytes(b"{")
    kept = {p: p.stat().st_mtime_ns for p in copy.rglob("row.json") if "relu-seed1" not in str(p)}
    with pytest.raises(InputError, match=f"relu-seed1/{file}.*--retrain"):
        sweep(SMALL, copy)
    with SweepProgress(Console(file=io.StringIO())) as progress:
        run_sweep(resolve_sweep(SMALL), copy, COMMAND, progress, retrain=True)
    again, first = rows_of(copy)["relu-seed1"], rows_of(folder)["relu-seed1"]
    assert without_times(again) == without_times(first)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert (copy / "members" / "relu-seed1" / "row.json.damaged").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"train": dataclasses.replace(SMALL.train, epsilon=0.2)},
        {"seeds": (0, 1, 2)},
        {"data": DataConfig(num_train=64, num_test=30)},
    ],
)
def test_the_folder_of_another_configuration_is_refused(folder, change):
    with pytest.raises(InputError, match=r"says .* choose another --output"):
        sweep(dataclasses.replace(SMALL, **change), folder)


def test_a_member_that_is_measured_again_is_not_done_until_it_is(folder, tmp_path, monkeypatch):
    copy = tmp_path / "results"
    shutil.copytree(folder, copy)
    (copy / "members" / "relu-seed1" / "outcomes.npz").unlink()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(member_folder, "save_run", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(SMALL, copy)
    assert (copy / "members" / "relu-seed1" / "outcomes.npz").exists()
    assert "relu-seed1" not in rows_of(copy)


def test_the_same_images_at_another_place_are_the_same(folder):
    moved = dataclasses.replace(SMALL, data=dataclasses.replace(SMALL.data, data_dir="/elsewhere"))
    assert "6 of 6 members are done already" in sweep(moved, folder)


def test_a_folder_that_is_there_and_empty_is_filled(tmp_path, monkeypatch):
    """A mount point or a link cannot be renamed onto."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config, dataset, *_ = resolve_sweep(SMALL)
    for folder in (tmp_path / "link", Path()):
        claim_folder(folder, config, dataset, COMMAND)
        claim_folder(folder, config, dataset, COMMAND)
        names = {"config.json", "data.json", "environment.json"}
        assert {path.name for path in folder.iterdir()} == names
    assert (tmp_path / "link").is_symlink()


def test_a_folder_that_cannot_be_made_is_refused_and_leaves_nothing(tmp_path):
    config, dataset, *_ = resolve_sweep(SMALL)
    (tmp_path / "file").write_text("important")
    with pytest.raises(InputError, match=r"file/x cannot be made \(Not a directory\): choose"):
        claim_folder(tmp_path / "file" / "x", config, dataset, COMMAND)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(InputError, match="is in the way and no results folder"):
        sweep(SMALL, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "important"


def test_a_diverged_member_is_a_row_of_its_own(tmp_path):
    config = dataclasses.replace(
        SMALL,
        train=dataclasses.replace(SMALL.train, learning_rate=1e30),
        curvatures=(7.0,),
        baselines=(),
        seeds=(0,),
    )
    output = sweep(config, tmp_path / "results")
    assert "1 of 1 members are done already" in sweep(config, tmp_path / "results")
    (row,) = rows_of(tmp_path / "results").values()
    assert row["status"] == "diverged"
    assert "not finite at step" in row["message"]
    assert row["message"] in output
    assert row["hessian"] is None
    assert "diverged" in write_report(open_study(tmp_path / "results")).read_text()


def test_one_compilation_for_all_members_of_a_family(tmp_path):
    """Alphas and seeds are data: 6 members compile what 1 does."""
    counts = []
    for curvatures, seeds in (((3.0,), (0,)), ((2.0, 5.0, 9.0), (1, 2))):
        # A width of its own, so that nothing is compiled yet.
        model = f"mlp-1x{11 + len(seeds)}"
        config = dataclasses.replace(
            SMALL,
            train=dataclasses.replace(SMALL.train, model=model),
            curvatures=curvatures,
            seeds=seeds,
            baselines=(),
        )
        with count_compilations() as compilations:
            sweep(config, tmp_path / model)
        counts.append(compilations())
    assert counts[0] == counts[1] > 0


class count_compilations:  # noqa: N801
    """Counts what XLA compiles, or takes from the persistent cache."""

    def __enter__(self):
        self.count, self.is_active = 0, True
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return lambda: self.count

    def _listen(self, event: str, duration: float, **_: object) -> None:
        self.count += self.is_active and event == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *_: object) -> None:
        self.is_active = False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curvatures": (-1.0,)}, "curvature"),
        ({"betas": (-1,)}, "beta"),
        ({"baselines": ("sine",)}, "sine"),
        ({"seeds": ()}, "the sweep is empty"),
        ({"seeds": (0, 0)}, "names .* twice"),
        ({"hessian": HessianConfig(num_probes=1)}, "probes must be 2 or more"),
        (
            {"hessian": HessianConfig(num_examples=0)},
            "hessian-examples must be a positive number",
        ),
        ({"evaluation": EvaluationConfig(pgd_steps=0)}, "pgd-steps must be a positive number"),
        ({"data": DataConfig(num_train=0)}, "0"),
    ],
)
def test_what_cannot_run_is_refused_before_any_work(change, message):
    with pytest.raises(InputError, match=message):
        resolve_sweep(dataclasses.replace(SMALL, **change))


def test_families_and_groups():
    config = dataclasses.replace(SMALL, betas=(0, 2))
    families = by_family(expand(config))
    assert [len(family) for family in families] == [4, 4, 2]
    groups = list(groups_of(families[0], 3))
    assert [len(group) for group in groups] == [3, 1]
    assert [member for group in groups for member in group] == families[0]


def test_a_hessian_that_is_not_finite_is_none(tmp_path, monkeypatch):
    original = families.make_estimate_hessian

    def overflowing(*arguments):
        def estimate_hessian(*arguments, **settings):
            found = estimate(*arguments, **settings)
            return found._replace(mean_square=found.mean_square._replace(q=math.nan))

        estimate = original(*arguments)
        return estimate_hessian

    monkeypatch.setattr(families, "make_estimate_hessian", overflowing)
    output = sweep(
        dataclasses.replace(SMALL, curvatures=(7.0,), seeds=(0,), baselines=()), tmp_path
    )
    assert "%, the Hessian is not finite (" in output
    (row,) = load_results(tmp_path).rows
    assert (row.status, row.hessian, row.message) == ("done", None, "the Hessian is not finite")
    assert write_report(open_study(tmp_path)).is_file()
