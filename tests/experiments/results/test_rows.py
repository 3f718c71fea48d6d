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

from rctaf_jax.errors import InputError
from rctaf_jax.eval.accuracy import wilson_interval
from rctaf_jax.experiments.pages.findings import (
    differences,
    flattest,
    most_robust,
    paper_sentences,
    robustness_sentences,
)
from rctaf_jax.experiments.results.rows import load_results, write_rows_csv
from rctaf_jax.experiments.results.summary import HUTCHINSON, STUDENT, WILSON, summarise

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
    assert summary.robust.interval == STUDENT
    assert summary.hessian is not None
    deviation = np.std(np.log(norms), ddof=1)
    mean = math.prod(norms) ** (1 / 3)
    low = mean * math.exp(-4.302653 * deviation / math.sqrt(3))
    assert summary.hessian.mean == pytest.approx(mean)
    assert summary.hessian.low == pytest.approx(low, rel=1e-6)
    assert summary.num_seeds == 3


def test_the_spread_over_seeds_is_pooled(make_folder: Factory, make_member: Factory) -> None:
    """Two groups of two and one alone share one deviation: sqrt((2 + 8) / 2) images, t_2."""
    counts = {2: (100, 102), 7: (200, 204), 50: (300,)}
    rows = [
        make_member(1, curvature, seed, robust=count)
        for curvature, group in counts.items()
        for seed, count in enumerate(group)
    ]
    summaries = summarise(load_results(make_folder(rows)).rows)
    for summary, group in zip(summaries, counts.values(), strict=True):
        assert summary.robust is not None
        half = 4.302653 * math.sqrt(5) / math.sqrt(len(group)) / 360
        assert summary.robust.mean == pytest.approx(np.mean(group) / 360)
        assert summary.robust.high - summary.robust.mean == pytest.approx(half, rel=1e-6)


def test_one_seed_has_its_own_errors(make_folder: Factory, make_member: Factory) -> None:
    (summary,) = summarise(load_results(make_folder([make_member(1, 7, 0)])).rows)
    assert summary.robust is not None
    assert summary.robust[1:3] == tuple(wilson_interval(200, 360))
    assert summary.robust.interval == WILSON
    assert summary.hessian is not None
    assert summary.hessian.interval == HUTCHINSON
    assert summary.hessian.high - 0.01 == pytest.approx(1.959964 * 0.025 * 0.01, rel=1e-6)


def test_seeds_that_count_the_same_do_not_give_a_point(
    make_folder: Factory, make_member: Factory
) -> None:
    rows = [make_member(1, 7, seed) for seed in (0, 1)]
    (summary,) = summarise(load_results(make_folder(rows)).rows)
    assert summary.robust is not None
    assert summary.robust.interval == WILSON
    assert summary.robust.low < 200 / 360 < summary.robust.high


def test_intervals_stay_where_the_quantity_can_be(
    make_folder: Factory, make_member: Factory
) -> None:
    rows = [make_member(1, 7, 0, clean=360, rms=0.001), make_member(1, 7, 1, clean=340, rms=0.9)]
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


def test_the_best_is_told_with_those_it_cannot_be_told_from(
    make_folder: Factory, make_member: Factory
) -> None:
    robust = {1: 100, 4: 195, 7: 200, 50: 120}  # of 360; Wilson's half width is 18.5 at 200
    rows = [make_member(1, c, 0, robust=count, rms=c / 100) for c, count in robust.items()]
    rows.append(make_member(None, math.inf, 0, robust=110))
    summaries = summarise(load_results(make_folder(rows)).rows)
    (best,) = most_robust(summaries)
    assert (best.curvature, best.num_others, best.num_overlapping) == (7.0, 3, 1)
    assert best.edge is None
    (flat,) = flattest(summaries)
    assert (flat.curvature, flat.edge, flat.num_overlapping) == (1.0, "smallest", 0)
    beta, relu = robustness_sentences(summaries)
    assert "55.6% (95% interval 50.4 to 60.6)" in beta
    assert "1 of the 3 other curvatures overlap" in beta
    assert "lies below the best of RCT-AF β = 1" in relu


def test_the_paper_is_neither_confirmed_nor_refuted(
    make_folder: Factory, sweep_rows: list[dict[str, Any]]
) -> None:
    folder = make_folder(sweep_rows)
    results = load_results(folder)
    claim, here, caution = paper_sentences(results, summarise(results.rows))
    assert "from 4 to 10" in claim
    assert "3 of 3 inside" in here
    assert "neither confirms nor refutes" in caution
    train = dataclasses.replace(results.config.train, model="resnet18", width=1.0)
    config = dataclasses.replace(results.config, train=train)
    data = results.data | {"name": "cifar10", "num_train": 50_000}
    as_paper = results._replace(config=config, data=data)
    assert differences(as_paper) == ["the attack (PGD instead of AutoAttack)"]
