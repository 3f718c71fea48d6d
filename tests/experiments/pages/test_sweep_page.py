"""The page says what was found, whole and broken sweeps alike, and loads nothing from elsewhere."""

import json
import math
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.pages.sweep_page import write_report
from rctaf_jax.experiments.results import phrasing
from rctaf_jax.experiments.results.studies import open_study
from rctaf_jax.experiments.results.summary import summarise
from rctaf_jax.experiments.show.wording import CURVATURE

Factory = Callable[..., Any]
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags close in order; collects tags, attributes, ids and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(folder: Path) -> Page:
    page = Page(write_report(open_study(folder)).read_text(encoding="utf-8"))
    page.text = " ".join(page.text.split())
    return page


def test_a_complete_sweep(make_folder: Factory, sweep_rows: list[dict[str, Any]]) -> None:
    folder = make_folder(sweep_rows)
    page = read(folder)
    assert "38 of 38 members" in page.text
    assert "Nothing: every member finished" in page.text
    assert page.text.count("UCI digits: 1,797 handwritten digits") == 4
    for summary in summarise(open_study(folder).results.rows):
        assert phrasing.accuracy(summary.clean) in page.text
        assert phrasing.accuracy(summary.robust) in page.text
        assert phrasing.norm(summary.hessian) in page.text
    assert "ε = 8/255" in page.text
    assert "rctaf sweep --out results --betas 0 1 2" in page.text
    assert "19 min 00 s" in page.text  # 38 x 30 s of training
    assert "lies between 4 and 10." in page.text
    assert "findings could be decided. Chance decides each wrongly" in page.text
    for figure in ("robustness", "mechanism"):
        assert (folder / f"{figure}.png").stat().st_size > 0
        assert (folder / f"{figure}.svg").stat().st_size > 0
    assert (folder / "members.csv").read_text().count("\n") == 39


def test_the_page_needs_nothing_from_elsewhere(
    make_folder: Factory, sweep_rows: list[dict[str, Any]]
) -> None:
    page = read(make_folder(sweep_rows))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("svg") == 4
    for name, value in page.attributes:
        assert "//" not in value, (name, value)
        assert name not in ("src", "href", "xlink:href") or value.startswith("#")
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for name, value in page.attributes:
        if name.endswith("href"):
            assert value[1:] in ids
        for target in re.findall(r"url\(#(.*?)\)", value):
            assert target in ids


def test_a_broken_sweep_says_what_is_missing_and_escapes_it(
    make_folder: Factory, make_member: Factory, make_diverged: Factory
) -> None:
    rows = [
        make_member(0, 7, 0, rms=None),
        make_member(0, 10, 0, nonfinite=3),
        make_diverged(0, 50, 0, "<script>alert('x')</script> & NaN at step 12"),
    ]
    folder = make_folder(rows, betas=[0], curvatures=[7, 10, 20, 50], baselines=[], seeds=[0])
    page = read(folder)
    assert "script" not in page.tags
    assert "&lt;script&gt;alert(" in (folder / "report.html").read_text()
    assert "seed 0: <script>alert('x')</script> & NaN at step 12" in page.text
    assert "3 of 4 members; the sweep is not finished" in page.text
    assert "1 member diverged and is in no mean" in page.text
    assert f"diverged, by {CURVATURE}: 1 of 1 at 50." in page.text
    assert "1 member has no result yet: β = 0, curvature 20, seed 0." in page.text
    assert "unresolved" in page.text
    assert "seed 0: 3 images" in page.text


def test_sweeps_with_little_in_them(
    make_folder: Factory, make_member: Factory, make_diverged: Factory
) -> None:
    single = make_folder([make_member(1, 7, 0)], betas=[1], curvatures=[7], baselines=[], seeds=[0])
    assert "only one curvature was tried" in read(single).text
    single.rename(single.with_name("single"))
    relu = make_folder([make_member(None, math.inf, 0, hessian=None)], betas=[], seeds=[0])
    assert "measured no RCT-AF member" in read(relu).text
    relu.rename(relu.with_name("relu"))
    lost = make_folder([make_diverged(1, 7, 0, "NaN")])
    assert "no network was measured" in read(lost).text
    lost.rename(lost.with_name("lost"))
    with pytest.raises(InputError, match="holds no results yet"):
        open_study(make_folder([]))


def test_other_settings_are_told(make_folder: Factory, make_member: Factory) -> None:
    train = {"model": "mlp-2x64", "width": 1, "method": "standard", "norm": "L2", "epsilon": 0.5}
    text = read(
        make_folder([make_member(1, 7, 0)], train={**train, "epochs": 1, "batch_size": 9})
    ).text
    assert "standard training, without attacks" in text
    assert "ε = 0.5 long in the L2 norm" in text
    assert "trained for 1 epoch on" in text
    assert "the perturbations (L2, ε = 0.5)" in text


@pytest.mark.parametrize("attack", ["pgd", "autoattack"])
def test_the_attack_is_told(attack: str, make_folder: Factory, make_member: Factory) -> None:
    evaluation = {"attack": attack, "pgd_steps": 20, "pgd_restarts": 2, "pgd_loss": "margin"}
    text = read(make_folder([make_member(1, 7, 0)], evaluation=evaluation)).text
    is_pgd = attack == "pgd"
    assert ("projected gradient descent (PGD)" in text) == is_pgd
    assert ("the attack (PGD instead of AutoAttack)" in text) == is_pgd
    assert ("AutoAttack, an ensemble of four attacks" in text) != is_pgd


def test_networks_trained_elsewhere_are_told(make_folder: Factory, make_member: Factory) -> None:
    folder = make_folder([make_member(1, 7, seed) for seed in (0, 1)])
    assert "Where networks were trained" not in read(folder).text
    own = json.loads((folder / "environment.json").read_text())
    path = folder / "members" / "rct-af-beta1-curvature7-seed1" / "environment.json"
    path.write_text(json.dumps(own))
    assert "Where networks were trained" not in read(folder).text
    versions = own["versions"] | {"jax": "0.11.0"}
    path.write_text(json.dumps(own | {"device": "gpu x 8", "versions": versions}))
    assert (
        "Where networks were trained, as far as it is not as above: device cpu x 1 (1 network), "
        "gpu x 8 (1 network); jax 0.10.2 (1 network), 0.11.0 (1 network)."
    ) in read(folder).text


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror="alert(1)">', "</pre><svg onload=x>"]


# Words of a few, of which a reader refuses any other.
CHOICES = {"norm", "attack", "schedule", "augmentation", "dtype", "pgd_loss"}


def hostile(value: Any, text: str, kept: set[str], key: str = "") -> Any:
    """`value` with markup behind every text in it, but for keys whose text has a meaning."""
    if isinstance(value, dict):
        return {name: hostile(inner, text, kept, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner, text, kept, key) for inner in value]
    return value + text if isinstance(value, str) and key not in kept else value


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_folder_becomes_markup(
    text: str, make_folder: Factory, make_member: Factory, make_diverged: Factory
) -> None:
    """Whatever config.json, data.json, environment.json and rows say in words."""
    rows = [make_member(1, 7, 0), make_member(1, 10, 0), make_diverged(1, 50, 0, "NaN")]
    rows = [row | {"seconds": {f"train{text}": 1.0}} for row in rows]
    rows[2]["message"] = f"NaN{text}"
    folder = make_folder(rows, betas=[1], curvatures=[7, 10, 50], baselines=[], seeds=[0])
    shutil.copy(folder / "environment.json", folder / "members" / rows[0]["id"])
    clean = read(folder).tags
    for path in [*folder.glob("*.json"), *folder.glob("members/*/environment.json")]:
        changed = hostile(json.loads(path.read_text()), text, kept=CHOICES)
        if path.name == "environment.json":
            changed["versions"] |= {f"jax{text}": "1"}
        path.write_text(json.dumps(changed))
    page = read(folder)
    assert not {"script", "img"} & set(page.tags)
    assert page.tags.count("svg") == clean.count("svg")
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(text) > 10
