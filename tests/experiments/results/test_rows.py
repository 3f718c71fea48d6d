"""Reading a results folder, and reducing members to means with intervals worked by hand."""

import csv
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.pages.findings import differences, paper_sentences
from rctaf_jax.experiments.results.rows import load_results, write_rows_csv
from rctaf_jax.experiments.results.summary import paired_estimates, summarise

Factory = Callable[..., Any]


def test_a_complete_sweep_is_read_in_order(
    make_folder: Factory, sweep_rows: list[dict[str, Any]]
) -> None:
    results = load_results(make_folder(sweep_rows))
    assert results.num_expected == 3 * 6 * 2 + 2 == len(results.rows)
    assert results.missing == ()
    assert [row.beta for row in results.rows[:12]] == [0] * 12
    assert [row.max_curvature for row in results.rows[:4]] == [1.0, 1.0, 4.0, 4.0]
    assert results.rows[-1].family == "relu"
    assert math.isinf(results.rows[-1].max_curvature)


def test_an_unfinished_sweep_says_what_lacks(make_folder: Factory, make_member: Factory) -> None:
    rows = [make_member(1, 7, 0), make_member(None, math.inf, 1)]
    results = load_results(
        make_folder(rows, betas=[1], curvatures=[7, 10], baselines=["relu"], seeds=[0, 1])
    )
    assert len(results.rows) == 2
    assert results.num_expected == 6
    assert results.missing == (
        "β = 1, curvature 7, seed 1",
        "β = 1, curvature 10, seed 0",
        "β = 1, curvature 10, seed 1",
        "relu, seed 0",
    )


def test_no_results_folder(tmp_path: Path, make_folder: Factory, make_member: Factory) -> None:
    with pytest.raises(InputError, match="is not a results folder"):
        load_results(tmp_path)
    with pytest.raises(InputError, match="is not a results folder"):
        load_results(tmp_path / "absent")
    folder = make_folder([])
    with pytest.raises(InputError, match="holds no results yet: 0 of 38 members"):
        load_results(folder)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("config.json", "is not that of a results folder: it has the keys nothing"),
        ("environment.json", r"lacks versions: it must be an object"),
        ("data.json", "lacks name: it must be text"),
    ],
)
def test_a_damaged_or_incomplete_file_is_named(
    make_folder: Factory, make_member: Factory, name: str, sentence: str
) -> None:
    folder = make_folder([make_member(1, 7, 0)])
    (folder / name).write_text("{}")
    with pytest.raises(InputError, match=f"{name} {sentence}"):
        load_results(folder)
    (folder / name).write_text('{"betas": [0')
    with pytest.raises(InputError, match=f"{name} is damaged"):
        load_results(folder)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("data", {"num_train": 0}, "num_train = 0: it must be an integer >= 1"),
        ("data", {"num_test": "360"}, 'num_test = "360": it must be an integer >= 1'),
        ("data", {"content_hash": 5}, "content_hash = 5: it must be text"),
        ("data", {"class_names": ["0", 1]}, r"class_names\[1\] = 1: it must be text"),
        ("data", {"class_names": []}, r"class_names = \[\]: it must be a list of length >= 1"),
        ("data", {"image_shape": [8, 8]}, r"image_shape = \[8, 8\]: it must be a list"),
        ("data", {"source": None}, "source = null: it must be text"),
        ("environment", {"versions": {"jax": 10}}, "versions.jax = 10: it must be text"),
        ("environment", {"versions": []}, r"versions = \[\]: it must be an object"),
        ("environment", {"device": None}, "device = null: it must be text"),
        ("environment", {"commit": 12}, "commit = 12: it must be text or null"),
    ],
)
def test_what_a_file_says_is_checked(
    make_folder: Factory,
    make_member: Factory,
    name: str,
    change: dict[str, Any],
    sentence: str,
) -> None:
    folder = make_folder([make_member(1, 7, 0)])
    path = folder / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=f"{name}.json has {sentence}"):
        load_results(folder)


def test_what_an_older_file_lacks_is_empty_and_what_a_newer_one_adds_is_ignored(
    make_folder: Factory, make_member: Factory
) -> None:
    folder = make_folder([make_member(1, 7, 0)])
    for name, lacks in (("data", "class_names"), ("environment", "commit")):
        path = folder / f"{name}.json"
        value = json.loads(path.read_text()) | {"newer": [1]}
        path.write_text(json.dumps({key: v for key, v in value.items() if key != lacks}))
    results = load_results(folder)
    assert results.data["class_names"] is None
    assert results.environment["commit"] is None


def test_members_were_measured_on_the_images_of_the_folder(
    make_folder: Factory, make_member: Factory
) -> None:
    folder = make_folder([make_member(1, 7, 0), make_member(1, 7, 1, num_test=361)])
    with pytest.raises(InputError, match=r"seed1/row.json has num_test = 361: it must be 360"):
        load_results(folder)


def test_the_interval_over_seeds_is_students(make_folder: Factory, make_member: Factory) -> None:
    counts = [180, 198, 189]
    norms = [0.01, 0.012, 0.014]
    rows = [
        make_member(1, 7, seed, robust=count, rms=rms)
        for seed, (count, rms) in enumerate(zip(counts, norms, strict=True))
    ]
    (summary,) = summarise(load_results(make_folder(rows)).rows)
    # Fractions 0.5, 0.55, 0.525: mean 0.525, s = 0.025; t_{0.975, 2} = 4.302653 from tables.
    half = 4.302653 * 0.025 / math.sqrt(3)
    assert summary.robust is not None
    assert summary.robust.mean == pytest.approx(0.525)
    assert summary.robust.high - 0.525 == pytest.approx(half, rel=1e-6)
    assert 0.525 - summary.robust.low == pytest.approx(half, rel=1e-6)
    assert summary.hessian is not None
    deviation = np.std(np.log(norms), ddof=1)
    mean = math.prod(norms) ** (1 / 3)
    low = mean * math.exp(-4.302653 * deviation / math.sqrt(3))
    assert summary.hessian.mean == pytest.approx(mean)
    assert summary.hessian.low == pytest.approx(low, rel=1e-6)
    assert summary.num_seeds == 3


def test_what_a_seed_does_to_all_is_taken_out() -> None:
    """Intervals of two activations are half as wide as their difference's: a paired t interval."""
    rng = np.random.default_rng(0)
    seeds, own = 10 * rng.normal(size=5), rng.normal(size=(2, 5))
    estimates = paired_estimates([dict(enumerate(map(float, row + seeds))) for row in own])
    difference = own[0] - own[1]
    half = ttest_1samp(difference, 0).confidence_interval(0.95).high - difference.mean()
    for estimate, row in zip(estimates, own, strict=True):
        assert estimate is not None
        assert estimate.mean == pytest.approx(np.mean(row + seeds))
        # The spread of one of two independent ones is that of their difference over sqrt(2).
        assert estimate.high - estimate.mean == pytest.approx(half / math.sqrt(2), rel=1e-9)


def test_each_activation_has_the_spread_of_its_own_seeds() -> None:
    rng = np.random.default_rng(1)
    table = np.array([1.0] * 7 + [20.0])[:, None] * rng.normal(size=(8, 6)) + rng.normal(size=6)
    estimates = paired_estimates([dict(enumerate(map(float, row))) for row in table])
    widths = [one.high - one.low for one in estimates if one is not None]
    assert widths[7] > 3 * max(widths[:7])
    table[7, 0] = np.nan  # a lost seed leaves the others' as they would be without it
    values = [{s: float(v) for s, v in enumerate(row) if not np.isnan(v)} for row in table]
    again = paired_estimates(values)
    assert again[:7] == paired_estimates(values[:7])
    assert paired_estimates([{}, *values])[1:] == again  # one without any network changes nothing
    assert paired_estimates([{}])[0] is None


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_fewer_than_three_seeds_have_no_interval(
    make_folder: Factory, make_member: Factory, num_seeds: int
) -> None:
    rows = [make_member(1, c, seed) for c in (4, 7) for seed in range(num_seeds)]
    for summary in summarise(load_results(make_folder(rows)).rows):
        for estimate in (summary.clean, summary.robust, summary.hessian):
            assert estimate is not None
            assert not estimate.has_interval


def test_intervals_stay_where_the_quantity_can_be(
    make_folder: Factory, make_member: Factory
) -> None:
    values = ((360, 0.001), (340, 0.9), (359, 0.01))
    rows = [make_member(1, 7, s, clean=clean, rms=rms) for s, (clean, rms) in enumerate(values)]
    (summary,) = summarise(load_results(make_folder(rows)).rows)
    assert summary.clean is not None
    assert summary.clean.high == 1.0
    assert summary.hessian is not None
    assert 0 < summary.hessian.low < summary.hessian.mean


def test_diverged_and_unresolved_members(
    make_folder: Factory, make_member: Factory, make_diverged: Factory
) -> None:
    rows = [
        make_member(1, 7, 0, rms=None),
        make_member(1, 7, 1),
        make_diverged(1, 50, 0, "NaN"),
    ]
    summaries = summarise(load_results(make_folder(rows)).rows)
    assert [s.num_unresolved for s in summaries] == [1, 0]
    assert summaries[0].hessian is None  # the other seed alone would be biased upwards
    assert summaries[1].num_diverged == 1
    assert summaries[1].num_seeds == 0
    assert summaries[1].robust is None


def test_rows_as_csv(make_folder: Factory, make_member: Factory, make_diverged: Factory) -> None:
    folder = make_folder([make_member(None, math.inf, 0), make_diverged(1, 7, 0, 'a, "b"')])
    path = write_rows_csv(load_results(folder), folder / "rows.csv")
    with path.open(newline="") as file:
        lost, relu = csv.DictReader(file)
    assert relu["max_curvature"] == "inf"
    assert relu["alpha"] == ""
    assert float(relu["hessian_rms"]) == 0.01
    assert float(relu["seconds_train"]) == 30.0
    assert lost["message"] == 'a, "b"'
    assert lost["robust_correct"] == lost["hessian_rms"] == ""


def test_the_paper_is_neither_confirmed_nor_refuted(
    make_folder: Factory, sweep_rows: list[dict[str, Any]]
) -> None:
    folder = make_folder(sweep_rows)
    results = load_results(folder)
    claim, caution = paper_sentences(results)
    assert "from 4 to 10" in claim
    assert "neither confirms nor refutes" in caution
    train = dataclasses.replace(results.config.train, model="resnet18", width=1.0)
    config = dataclasses.replace(results.config, train=train)
    data = results.data | {"name": "cifar10", "num_train": 50_000}
    as_paper = results._replace(config=config, data=data)
    assert differences(as_paper) == ["the attack (PGD instead of AutoAttack)"]
