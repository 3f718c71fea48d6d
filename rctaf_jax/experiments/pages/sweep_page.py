"""A results folder as one page to read, its figures as files, and its rows as a CSV file.

The page needs nothing but itself: figures and style are in it, and there is no script.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from rctaf_jax.config import EvaluationConfig, TrainConfig
from rctaf_jax.experiments.claims import (
    Judged,
    divergence_sentences,
    errors_to_expect,
    group_findings,
    judge_studies,
)
from rctaf_jax.experiments.results.config_file import as_json
from rctaf_jax.experiments.results.figures import mechanism_figure, robustness_figure
from rctaf_jax.experiments.results.rows import Results, write_rows_csv
from rctaf_jax.experiments.results.studies import Study
from rctaf_jax.experiments.results.summary import summarise
from rctaf_jax.experiments.show import wording
from rctaf_jax.experiments.show.plotting import save_figure
from rctaf_jax.files import write_text_atomic

from .findings import paper_sentences, uses_autoattack
from .origin import costs, settings, where_trained
from .render import panels_of, render

_TEMPLATE = "report.html.jinja"

_METHODS = {
    "standard": "to classify clean images (standard training, without attacks)",
    "pgd-at": "to classify images perturbed against it (PGD adversarial training)",
    "trades": "to classify clean images, and to answer alike when they are perturbed against it "
    "(TRADES adversarial training)",
}
_ATTACK_LOSSES = {"ce": "the cross-entropy", "margin": "the margin of the best wrong class"}


def write_report(study: Study) -> Path:
    """Writes `report.html`, `members.csv` and the figures into a study's folder, finished or not.

    The figures are `robustness` (the paper's Figure 3) and `mechanism` (Figure 7), each as PNG and
    SVG.

    Returns:
      The path of `report.html`.

    Raises:
      InputError: if the outcomes of a network are not there.
    """
    judged = group_findings(judge_studies([study]))
    robustness, mechanism = robustness_figure(study.results), mechanism_figure(study.results)
    save_figure(robustness, study.folder / "robustness")
    save_figure(mechanism, study.folder / "mechanism")
    write_rows_csv(study.results, study.folder / "members.csv")
    page = render_page(study, judged, robustness, mechanism)
    return write_text_atomic(study.folder / "report.html", page)


def render_page(
    study: Study, judged: Sequence[Judged], robustness: Figure, mechanism: Figure
) -> str:
    """The page as HTML; every text in it is escaped."""
    results = study.results
    summaries = summarise(results.rows)
    return render(
        _TEMPLATE,
        results=results,
        judged=judged,
        title=f"Curvature and robustness: {results.data['name']}, {results.config.train.model}",
        summaries=summaries,
        measured=measured_sentences(results),
        errors=errors_to_expect(judged),
        shares=divergence_sentences([study]),
        paper=paper_sentences(results),
        robustness=panels_of(robustness, "robustness", "Robust accuracy"),
        mechanism=panels_of(mechanism, "mechanism", "Clean accuracy and Hessian norm"),
        settings=settings(as_json(results.config)),
        costs=costs(results),
        where=where_trained(study),
        diverged=[row for row in results.rows if not row.is_done],
        unresolved=[summary for summary in summaries if summary.num_unresolved],
        nonfinite=[row for row in results.rows if row.nonfinite],
    )


def measured_sentences(results: Results) -> list[str]:
    """What was trained and measured, in plain words."""
    train, evaluation, data = results.config.train, results.config.evaluation, results.data
    done = [row for row in results.rows if row.is_done]
    lasting = "" if train.epochs is None else f" for {wording.count(train.epochs, 'epoch')}"
    trained = (
        f"{wording.count(len(results.rows), 'network')} of the same architecture "
        f"({train.model}, width {wording.number(train.width)}), which differ in their "
        f"activation function and random seed only, were each trained{lasting} on "
        f"{wording.count(data['num_train'], 'image')} "
        f"{_METHODS.get(train.method, 'by the method ' + train.method)}."
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


def _attack(results: Results, evaluation: EvaluationConfig) -> str:
    if uses_autoattack(results):
        return (
            "AutoAttack, an ensemble of four attacks without parameters to tune; an image counts "
            "as robust if it withstands all of them"
        )
    loss = _ATTACK_LOSSES.get(evaluation.pgd_loss, evaluation.pgd_loss)
    return (
        f"projected gradient descent (PGD), which changes an image so as to raise {loss}: "
        f"{wording.count(evaluation.pgd_steps, 'step')} from each of "
        f"{wording.count(evaluation.pgd_restarts, 'random start')}"
    )


def _budget(train: TrainConfig) -> str:
    """How much an attack may change an image."""
    epsilon = train.epsilon
    levels = epsilon * 255
    is_round = math.isclose(levels, round(levels), rel_tol=1e-6)
    size = f"{round(levels)}/255" if is_round else wording.number(epsilon)
    if train.norm == "Linf":
        return f"each pixel value (0 to 1) changed by at most ε = {size} (L∞)"
    return f"the whole change at most ε = {size} long in the {train.norm} norm, pixels 0 to 1"
