"""A results folder as one page to read, its figures as files, and its rows as a CSV file.

The page needs nothing but itself: figures and style are in it, and there is no script.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rctaf_jax.experiments.claims import Judged, group_findings, judge
from rctaf_jax.experiments.results.figures import (
    Panel,
    by_family,
    draw,
    mechanism_panels,
    robustness_panels,
)
from rctaf_jax.experiments.results.rows import (
    Results,
    load_results,
    read_environment,
    write_rows_csv,
)
from rctaf_jax.experiments.results.summary import Summary, summarise
from rctaf_jax.experiments.run.environment import device_and_versions
from rctaf_jax.experiments.show import wording
from rctaf_jax.experiments.show.plotting import inline_svg, png, svg
from rctaf_jax.files import write_bytes_atomic, write_text_atomic

from .findings import hessian_sentences, paper_sentences, robustness_sentences, uses_autoattack
from .render import render

TEMPLATE = "report.html.jinja"

_METHODS = {
    "standard": "to classify clean images (standard training, without attacks)",
    "pgd-at": "to classify images perturbed against it (PGD adversarial training)",
    "trades": "to classify clean images, and to answer alike when they are perturbed against it "
    "(TRADES adversarial training)",
}
_ATTACK_LOSSES = {"ce": "the cross-entropy", "margin": "the margin of the best wrong class"}
_PHASES = {"train": "training", "evaluate": "evaluation", "hessian": "Hessian norm"}


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Writes `report.html`, `members.csv` and the figures into a results folder, finished or not.

    The figures are `robustness` (the paper's Figure 3) and `mechanism` (Figure 7), each as PNG and
    SVG.

    Returns:
      The path of `report.html`.

    Raises:
      InputError: as `load_results` does.
    """
    folder = Path(folder)
    results = load_results(folder)
    judged = group_findings(judge([folder]))
    series = by_family(results.rows)
    panels = {"robustness": robustness_panels(series), "mechanism": mechanism_panels(series)}
    for name, group in panels.items():
        figure = draw(list(group.values()))
        write_bytes_atomic(folder / f"{name}.png", png(figure))
        write_text_atomic(folder / f"{name}.svg", svg(figure))
    write_rows_csv(results, folder / "members.csv")
    where = where_trained(folder, results)
    page = render_page(results, judged, panels["robustness"], panels["mechanism"], where)
    return write_text_atomic(folder / "report.html", page)


def render_page(
    results: Results,
    judged: Sequence[Judged],
    robustness: Mapping[str, Panel],
    mechanism: Mapping[str, Panel],
    where: str | None,
) -> str:
    """The page as HTML; every text in it is escaped."""
    summaries = summarise(results.rows)
    return render(
        TEMPLATE,
        results=results,
        judged=judged,
        title=f"Curvature and robustness: {results.data['name']}, {_train(results)['model']}",
        summaries=summaries,
        measured=measured_sentences(results),
        robustness_findings=robustness_sentences(summaries),
        hessian_findings=hessian_sentences(summaries),
        paper=paper_sentences(results, summaries),
        intervals=interval_sentence(summaries),
        robustness=_inline(robustness, "Robust accuracy"),
        mechanism=_inline(mechanism, "Clean accuracy and Hessian norm"),
        settings=settings(results.config),
        costs=costs(results),
        where=where,
        diverged=[row for row in results.rows if not row.is_done],
        unresolved=[summary for summary in summaries if summary.num_unresolved],
        nonfinite=[row for row in results.rows if row.nonfinite],
    )


def measured_sentences(results: Results) -> list[str]:
    """What was trained and measured, in plain words."""
    train, evaluation, data = _train(results), results.config["evaluation"], results.data
    done = [row for row in results.rows if row.is_done]
    trained = (
        f"{wording.count(len(results.rows), 'network')} of the same architecture "
        f"({train['model']}, width {wording.number(train['width'])}), which differ in their "
        f"activation function and random seed only, were each trained for "
        f"{wording.count(train['epochs'], 'epoch')} on "
        f"{wording.count(data['num_train'], 'image')} "
        f"{_METHODS.get(train['method'], 'by the method ' + train['method'])}."
    )
    tested = wording.count(data["num_test"], "test image")
    attack = f"Then {tested} were attacked with {_attack(results, evaluation)}, {_budget(train)}."
    norms = [row.hessian for row in done if row.hessian is not None]
    if not norms:
        return [trained, attack]
    hessian = (
        f"The Hessian norm is that of the mean clean cross-entropy over "
        f"{wording.count(norms[0].num_examples, 'training image')}, estimated with "
        f"{wording.count(norms[0].num_probes, 'random probe')}, over "
        f"{wording.count(norms[0].num_parameters, 'parameter')}."
    )
    return [trained, attack, hessian]


def _attack(results: Results, evaluation: Mapping[str, Any]) -> str:
    if uses_autoattack(results):
        return (
            "AutoAttack, an ensemble of four attacks without parameters to tune; an image counts "
            "as robust if it withstands all of them"
        )
    loss = _ATTACK_LOSSES.get(evaluation["pgd_loss"], evaluation["pgd_loss"])
    return (
        f"projected gradient descent (PGD), which changes an image so as to raise {loss}: "
        f"{wording.count(evaluation['pgd_steps'], 'step')} from each of "
        f"{wording.count(evaluation['pgd_restarts'], 'random start')}"
    )


def interval_sentence(summaries: list[Summary]) -> str:
    """Which kinds of 95% interval the page has, and what they leave out."""
    kinds = Counter(
        estimate.interval
        for summary in summaries
        for estimate in (summary.clean, summary.robust, summary.hessian)
        if estimate is not None
    )
    listed = "; ".join(f"{kind} ({count})" for kind, count in kinds.items())
    return (
        f"All intervals are 95% intervals. Kinds on this page, and how many: {listed or 'none'}. "
        "An interval over seeds says what another seed would change on the same test images; its "
        "width assumes that seeds matter about as much for one activation as for another. Where "
        "no seed was repeated, an accuracy's interval says what other test images would change "
        "for that network, and nothing about another seed."
    )


def _train(results: Results) -> dict[str, Any]:
    train: dict[str, Any] = results.config["train"]
    return train


def _budget(train: Mapping[str, Any]) -> str:
    """How much an attack may change an image."""
    epsilon = train["epsilon"]
    levels = epsilon * 255
    is_round = math.isclose(levels, round(levels), rel_tol=1e-6)
    size = f"{round(levels)}/255" if is_round else wording.number(epsilon)
    if train["norm"] == "Linf":
        return f"each pixel value (0 to 1) changed by at most ε = {size} (L∞)"
    return f"the whole change at most ε = {size} long in the {train['norm']} norm, pixels 0 to 1"


def _inline(panels: Mapping[str, Panel], about: str) -> list[Markup]:
    return [
        Markup(inline_svg(draw([panel]), name=name, description=f"{about}: panel {name}"))
        for name, panel in panels.items()
    ]


def settings(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The configuration as lines of name and value."""
    lines: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            lines += settings(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            lines.append((prefix + key, ", ".join(map(str, value)) or "none"))
        else:
            lines.append((prefix + key, "not set" if value is None else str(value)))
    return lines


def where_trained(folder: Path, results: Results) -> str | None:
    """Devices and versions that networks were trained with, if not all are the folder's own.

    A network without an environment.json counts as trained with the folder's own.
    """
    own = device_and_versions(results.environment)
    paths = [folder / "members" / row.id / "environment.json" for row in results.rows]
    members = [
        device_and_versions(read_environment(path)) if path.exists() else own for path in paths
    ]
    differing = []
    for name in own:
        counts = Counter(member.get(name) for member in members)
        if counts.keys() != {own[name]}:
            listed = (f"{value} ({wording.count(n, 'network')})" for value, n in counts.items())
            differing.append(f"{name} {', '.join(listed)}")
    if not differing:
        return None
    return f"Where networks were trained, as far as it is not as above: {'; '.join(differing)}."


def costs(results: Results) -> list[tuple[str, str]]:
    """Time by phase, summed over members, the sum of all, and how fast they trained."""
    total: dict[str, float] = {}
    for row in results.rows:
        for phase, seconds in (row.seconds or {}).items():
            total[phase] = total.get(phase, 0.0) + (seconds or 0.0)
    lines = [(_PHASES.get(phase, phase), wording.duration(spent)) for phase, spent in total.items()]
    lines.append(("together", wording.duration(sum(total.values()))))
    device = str(results.environment["device"])
    if not device.startswith("cpu"):
        hours = sum(total.values()) / 3600
        lines.append(("accelerator-hours", f"{hours:.2f} ({device}, all of them while it ran)"))
    if total.get("train"):
        images = _train(results)["batch_size"] * sum(row.steps or 0 for row in results.rows)
        lines.append(("training images per second", f"{images / total['train']:,.0f}"))
    return lines
