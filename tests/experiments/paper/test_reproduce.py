"""Whole reproductions, as small as they can be: perceptrons on a few digits."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rctaf_jax.config import DataConfig, EvaluationConfig, HessianConfig, SweepConfig, TrainConfig
from rctaf_jax.errors import InputError
from rctaf_jax.experiments import load, load_outcomes
from rctaf_jax.experiments.claims import judge
from rctaf_jax.experiments.paper import folder as folders
from rctaf_jax.experiments.paper import reproduce as module
from rctaf_jax.experiments.paper.exhibits import table_2
from rctaf_jax.experiments.paper.experiment import Own
from rctaf_jax.experiments.paper.overhead import StepSize
from rctaf_jax.experiments.paper.registry import EXPERIMENTS, experiments_named, lacks
from rctaf_jax.experiments.paper.reproduce import reproduce
from rctaf_jax.experiments.paper.reproduction import write_page
from rctaf_jax.experiments.paper.scales import SCALES, ExperimentScale, scale_named, study
from rctaf_jax.experiments.results.studies import study_folders
from rctaf_jax.experiments.sweep.setup import resolve_study

BASE = SweepConfig(
    data=DataConfig(num_train=64, num_test=40),
    train=TrainConfig(model="mlp-1x8", epsilon=0.1, epochs=2, batch_size=16, learning_rate=0.1),
    evaluation=EvaluationConfig(pgd_steps=2, batch_size=40),
    hessian=HessianConfig(num_probes=4, batch_size=64),
)
TINY = ExperimentScale(
    "tiny",
    "As small as it can be.",
    {
        "dajat": study(BASE, "trades", attack_steps=1),
        "trades": study(BASE, "pgd-at", attack_steps=1),
        "trades-wide": study(BASE, "pgd-at", attack_steps=1, model="mlp-1x12"),
        "standard": study(BASE, "standard"),
    },
    curvatures=(1.0, 2.0, 4.0, 7.0, 20.0, 50.0),
    alphas=(),
    seeds=(0,),
    step=StepSize("mlp-1x8", 1.0, 4),
    memory_step=StepSize("mlp-1x8", 1.0, 4),
)
COMMAND = "rctaf reproduce ..."


@pytest.fixture(autouse=True)
def tiny_scale(monkeypatch):
    """Pages find a folder's scale by its name; Table 2 has three lines."""
    monkeypatch.setitem(SCALES, "tiny", TINY)
    monkeypatch.setattr(table_2, "ROUNDS", 2)
    few = ("relu", "gelu", "rct-af:beta=2,curvature=7")
    monkeypatch.setattr(table_2, "PAPER_COSTS", {name: table_2.PAPER_COSTS[name] for name in few})


def run(names: list[str], folder: Path, *, sure: bool = True) -> str:
    output = io.StringIO()
    console = Console(file=output, width=100)
    reproduce(
        experiments_named(names), TINY, folder, COMMAND, console, is_sure=lambda sentence: sure
    )
    return output.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("reproduction") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALES, "tiny", TINY)
        output = run(["figure-1", "figure-3", "figure-4", "figure-7", "table-1"], folder)
    return folder, output


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_experiments_share_members(done):
    folder, output = done
    trained = sorted(path.parent.name for path in folder.glob("studies/dajat/members/*/row.json"))
    assert len(trained) == 18 + 6
    assert output.count("rct-af-beta1-alpha14-seed0: clean") == 4  # once in each of four studies
    seven = {row["id"] for row in rows_of(folder / "table-1" / "rows.csv")}
    assert len(seven) == 9
    assert "rct-af-beta1-alpha14-seed0" in seven
    assert len(rows_of(folder / "figure-3" / "rows.csv")) == 18
    assert len(rows_of(folder / "figure-4" / "rows.csv")) == 12


def test_the_plan_comes_first(done):
    _, output = done
    assert output.index("24 of 24") < output.index("seed0: clean")
    assert "In all: about" in output
    assert "As small as it can be." in output


def test_figures_and_page(done):
    folder, output = done
    for name in ("figure-1", "figure-3", "figure-4", "figure-7", "table-1"):
        assert (folder / name / "figure.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / name / "figure.svg").read_text().startswith("<?xml")
        assert EXPERIMENTS[name].title in " ".join(output.split())  # a title is folded
    page = (folder / "report.html").read_text()
    for name in ("figure-1", "figure-3", "figure-4", "figure-7", "table-1"):
        assert f'id="{name}"' in page
        assert EXPERIMENTS[name].paper.split(" (")[0][:40] in page.replace("&#39;", "'")
    assert "not enough data" in page
    assert "If --output, --data-dir or --engine were given, they belong to it too." in page
    assert "training images per second" in page
    for word in ("<script", "<link", "<img"):
        assert word not in page
    assert write_page(folder).path.read_text() == page


def test_only_the_standard_study_has_hessian_norms(done):
    folder, _ = done
    frame = load(folder)
    assert len(frame) == 24 + 6 + 6 + 18
    assert set(frame.study) == {"dajat", "trades", "trades-wide", "standard"}
    assert frame[frame.study == "standard"].hessian_rms.notna().all()
    assert frame[frame.study != "standard"].hessian_rms.isna().all()


def test_the_frame_has_what_the_rows_have(done):
    folder, _ = done
    frame = load(folder).set_index(["study", "id"])
    for path in folder.glob("studies/*/members/*/row.json"):
        row = json.loads(path.read_text())
        line = frame.loc[(path.parents[2].name, row["id"])]
        assert line.robust_correct == row["robust_correct"]
        outcomes = load_outcomes(path.parents[2], row["id"])
        assert outcomes["robust"].sum() == row["robust_correct"]
    in_csv = rows_of(folder / "studies" / "trades" / "members.csv")
    assert len(in_csv) == 6
    alone = load(folder / "studies" / "trades")
    assert [row["id"] for row in in_csv] == list(alone.id)


def test_claims_come_from_all_studies(done):
    folder, _ = done
    findings = judge(study_folders(folder))
    claims = {finding.claim for finding in findings}
    assert len(claims) == 11
    assert len(rows_of(folder / "claims.csv")) == len(findings)
    of_hessian = {f.study for f in findings if f.claim.startswith("Hessian")}
    assert of_hessian == {"standard, mlp-1x8, digits[train=64,test=40], 2 epochs"}


def test_started_again_it_trains_nothing_and_asks_nothing(done):
    folder, _ = done
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("row.json")}
    output = run(["figure-3", "table-1"], folder, sure=False)
    assert "0 of 24" in output
    assert "18 of 18" not in output
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("row.json")}
    stated = json.loads((folder / "reproduction.json").read_text())
    assert stated["experiments"] == ["figure-1", "figure-3", "figure-4", "figure-7", "table-1"]


def test_what_is_missing_is_trained_and_comes_out_the_same(done, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(done[0], copy)
    lost = copy / "studies" / "trades" / "members" / "rct-af-beta1-alpha14-seed0"
    first = json.loads((lost / "row.json").read_text())
    shutil.rmtree(lost)
    output = run(["figure-4"], copy)
    assert "1 of 6" in output
    again = json.loads((lost / "row.json").read_text())
    assert first | {"seconds": None} == again | {"seconds": None}


def test_a_figure_of_a_part(done, tmp_path):
    """A report of an unfinished reproduction says what lacks."""
    copy = tmp_path / "results"
    shutil.copytree(done[0], copy)
    shutil.rmtree(copy / "studies" / "trades" / "members" / "rct-af-beta1-alpha14-seed0")
    page = write_page(copy).path.read_text()
    assert "not trained yet: rct-af-beta1-alpha14-seed0" in page


def test_networks_trained_elsewhere_are_told_of(done, tmp_path):
    copy = tmp_path / "results"
    shutil.copytree(done[0], copy)
    place = copy / "studies" / "trades" / "members" / "rct-af-beta1-alpha14-seed0"
    environment = json.loads((place / "environment.json").read_text())
    assert environment["command"] == COMMAND
    (place / "environment.json").write_text(json.dumps(environment | {"device": "gpu x 8"}))
    page = write_page(copy).path.read_text()
    assert page.count("device cpu x 4 (5 networks), gpu x 8 (1 network).") == 1


def test_more_than_an_hour_is_asked_about(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ASK_AFTER", 0.0)
    with pytest.raises(InputError, match="nothing was started"):
        run(["figure-7"], tmp_path / "results", sure=False)
    assert not list((tmp_path / "results").rglob("row.json"))


def test_on_a_cluster_nothing_is_tried_here(tmp_path):
    trained = []

    def engine(sweep, members, progress):
        trained.append(len(members))
        assert not sweep.programs

    console, asked = Console(file=io.StringIO()), []

    def is_sure(sentence):
        asked.append(sentence)
        return True

    options = {"is_sure": is_sure, "engine": engine, "elsewhere": "a cluster of ours"}
    with pytest.raises(InputError, match="holds no results yet"):
        reproduce(
            experiments_named(["figure-7"]), TINY, tmp_path / "a", COMMAND, console, **options
        )
    assert (trained, asked) == ([18], ["How long this takes: unknown."])
    assert "figure-7 at scale tiny, on a cluster of ours." in console.file.getvalue()
    with pytest.raises(InputError, match="table-2 measures this machine"):
        reproduce(experiments_named(["table-2"]), TINY, tmp_path / "b", COMMAND, console, **options)


def test_table_2(tmp_path, monkeypatch):
    folder = tmp_path / "results"
    output = run(["table-2"], folder)
    rows = rows_of(folder / "table-2" / "rows.csv")
    assert rows[0]["activation"] == "relu"
    assert float(rows[0]["memory"]) == float(rows[0]["time"]) == 1.0
    assert float(rows[2]["paper_memory"]) == pytest.approx(2.30 / 0.73)
    assert "Table 2" in output
    measured = (folder / "table-2" / "overhead.json").stat().st_mtime_ns
    run(["table-2"], folder)
    assert (folder / "table-2" / "overhead.json").stat().st_mtime_ns == measured
    monkeypatch.setitem(SCALES, "tiny", TINY)
    other = TINY._replace(step=StepSize("mlp-1x8", 1.0, 8))
    (folder / "table-2" / "overhead.json").write_text(
        json.dumps(json.loads((folder / "table-2" / "overhead.json").read_text()) | {"time": {}})
    )
    with pytest.raises(InputError, match=r"is of step .* choose another --output"):
        table_2.load_overhead(other, folder / "table-2")


def test_table_2s_estimate_counts_what_is_left(tmp_path, monkeypatch):
    """Three activations, two rounds; ReLU's memory is measured by the trial."""
    trials = []

    def measure_memory(activation, size):
        trials.append(("memory", activation))
        return {"temporary_bytes": 1, "argument_bytes": 1}

    def measure_step(activation, size):
        trials.append(("step", activation))
        return 0.25

    monkeypatch.setattr(table_2, "measure_memory", measure_memory)
    monkeypatch.setattr(table_2, "measure_step", measure_step)
    table_2.estimate_overhead(TINY, tmp_path)
    table_2.estimate_overhead(TINY, tmp_path)
    assert trials == [("memory", "relu"), ("step", "relu")]
    kept = json.loads((tmp_path / "overhead.json").read_text())
    assert kept["seconds_per_step"] == 0.25
    (tmp_path / "overhead.json").write_text(json.dumps(kept | {"seconds_per_compilation": 10.0}))
    assert table_2.estimate_overhead(TINY, tmp_path) == (2 + 3) * 10.0 + 2 * 3 * 0.25
    table_2.remember_memory(TINY, tmp_path, "gelu")
    assert table_2.estimate_overhead(TINY, tmp_path) == (1 + 3) * 10.0 + 2 * 3 * 0.25


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"device": "TPU v9 x 8"}, "was measured with device TPU v9 x 8, here it would be with "),
        ({"versions": {"python": "2.7"}}, "was measured with python 2.7, here it would be with 3"),
    ],
)
def test_table_2_is_of_one_machine(tmp_path, monkeypatch, change, sentence):
    monkeypatch.setattr(table_2, "measure_memory", lambda *_: {"temporary_bytes": 1})
    table_2.remember_memory(TINY, tmp_path, "relu")
    table_2.remember_memory(TINY, tmp_path, "gelu")
    result = json.loads((tmp_path / "overhead.json").read_text())
    result["environment"] |= change
    (tmp_path / "overhead.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match=rf"{sentence}.*: choose another --output\.$"):
        table_2.estimate_overhead(TINY, tmp_path)


def test_own_measurements_are_tried_before_studies_and_shown_after(tmp_path, monkeypatch):
    tried = []

    def own(scale, folder):
        tried.append(folder.name)
        return 1.0

    def study(sweep, members):
        tried.append(sweep.folder.name)
        return 1.0

    monkeypatch.setattr(module, "estimate_study", study)
    measuring = EXPERIMENTS["table-2"]._replace(own=Own(own, table_2.measure_overhead))
    plan = module.plan_reproduction(
        [EXPERIMENTS["table-1"], measuring],
        TINY,
        tmp_path,
        COMMAND,
        Console(file=io.StringIO()),
        is_tried=True,
        retrain=False,
    )
    assert tried[0] == "table-2"
    assert [line.name for line in plan.lines] == [*tried[1:], "table-2"]


def test_studies_that_a_scale_lacks_are_left_out(tmp_path):
    with pytest.raises(InputError, match=r"figure-6 is not of scale tiny.*larger --scale"):
        run(["figure-6"], tmp_path / "results")
    output = run(["figure-6", "figure-2"], tmp_path / "results")
    assert "figure-6 is not of scale tiny" in output
    assert "left out" in output


def test_bad_input(tmp_path):
    with pytest.raises(InputError, match="unknown experiment 'figure-8': choose from figure-1"):
        experiments_named(["figure-8"])
    with pytest.raises(InputError, match="no experiment was named"):
        experiments_named([])
    with pytest.raises(InputError, match="unknown scale 'huge': choose one of digits, cpu"):
        scale_named("huge", None)
    with pytest.raises(InputError, match="is not the folder of `rctaf reproduce`"):
        write_page(tmp_path)
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(InputError, match="is in the way and no reproduction"):
        run(["figure-1"], tmp_path)


def test_another_scale_is_refused(done):
    with pytest.raises(InputError, match="is of scale tiny, this command of digits"):
        folders.claim_reproduction(done[0], SCALES["digits"], experiments_named(["figure-1"]))


@pytest.mark.parametrize("name", ["cpu", "gpu", "paper"])
def test_every_experiment_is_at_every_cifar_scale(name):
    scale = scale_named(name, "somewhere")
    for experiment in EXPERIMENTS.values():
        assert lacks(experiment, scale) == []
    assert all(config.data.data_dir == "somewhere" for config in scale.studies.values())


def test_all_but_the_second_dataset_is_at_the_scale_of_digits():
    scale = scale_named("digits", None)
    assert [name for name, one in EXPERIMENTS.items() if lacks(one, scale)] == ["figure-6"]


def test_the_papers_figure_3_has_alphas_from_1_to_50():
    (part,) = EXPERIMENTS["figure-3"].parts(SCALES["paper"])
    alphas = {member.activation.alpha for member in part.members}
    assert alphas == set(map(float, range(1, 51)))
    assert len(part.members) == 150
    table = {member.id for member in EXPERIMENTS["table-1"].parts(SCALES["paper"])[0].members}
    assert len(table & {member.id for member in part.members}) == 3


def test_scales_have_no_grids_and_those_of_digits_can_run():
    for config in SCALES["digits"].studies.values():
        resolved = resolve_study(config).config
        assert resolved.train.epochs == 10
        assert resolved.train.learning_rate == 0.1
    for scale in SCALES.values():
        for config in scale.studies.values():
            assert (config.betas, config.curvatures, config.baselines, config.seeds) == ((),) * 4
            is_standard = config.train.method == "standard"
            assert bool(config.hessian.num_probes) == is_standard
    assert np.all(np.diff(SCALES["gpu"].curvatures) > 0)
