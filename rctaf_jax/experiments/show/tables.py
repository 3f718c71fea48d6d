"""Tables for the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from rctaf_jax.activations import Activation
from rctaf_jax.data import Dataset
from rctaf_jax.experiments.claims import Judged
from rctaf_jax.experiments.results.rows import Results
from rctaf_jax.experiments.results.summary import summarise

from .wording import (
    ALPHA,
    CURVATURE,
    SIGMA,
    accuracy_short,
    count,
    duration,
    family_label,
    norm_width,
    number,
    probability,
)

_PAPER_DIGITS = 2e-3  # the paper prints three decimals


def summary_table(results: Results) -> Table:
    """One line for each activation: means over seeds with 95% intervals; 80 columns wide."""
    table = _table(SIGMA, ALPHA, CURVATURE, "clean %", "robust %", "Hessian norm", "seeds")
    for summary in summarise(results.rows):
        num_tried = summary.num_seeds + summary.num_diverged
        table.add_row(
            Text(family_label(summary.family).removeprefix("RCT-AF ")),
            number(summary.alpha),
            number(summary.max_curvature),
            accuracy_short(summary.clean),
            accuracy_short(summary.robust),
            "unresolved" if summary.num_unresolved else norm_width(summary.hessian),
            f"{summary.num_seeds}/{num_tried}",
        )
    table.caption = Text(  # as it is: rich would take brackets for markup
        f"{len(results.rows)} of {results.num_expected} members. [low, high] and ± are 95% "
        "intervals: over seeds, or with one seed over test images and probes. Seeds: those that "
        f"did not diverge / all. Data: {results.data['source']}"
    )
    return table


def curvature_table(activations: Sequence[Activation]) -> Table:
    """The true max |sigma''| of each activation, where it is, and the paper's value if it differs.

    Example:
      >>> from rctaf_jax.activations import parse_activation
      >>> curvature_table([parse_activation("mish")]).row_count
      1
    """
    table = _table("activation", CURVATURE, "at x", "note", "paper")
    for activation in activations:
        value, location, note, paper_value = activation.curvature
        table.add_row(
            Text(activation.text),
            number(value),
            number(location),
            note,
            "" if paper_value is None or _agrees(value, paper_value) else number(paper_value),
        )
    return table


def dataset_table(dataset: Dataset) -> Table:
    """What a dataset holds."""
    table = _table("dataset", "")
    for name, value in dataset.provenance().items():
        words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        table.add_row(name.replace("_", " "), Text(words, overflow="fold"))
    return table


def evaluation_table(result: Mapping[str, Any]) -> Table:
    """Clean and robust accuracy of one network with their 95% Wilson intervals."""
    table = _table("accuracy", "%", "95% interval", "images")

    def add(counts: Mapping[str, Any], words: str) -> None:
        for name, label in (("clean", "clean"), ("robust", result["attack"])):
            low, high = counts[f"{name}_interval"]
            table.add_row(
                Text(label + words),
                f"{100 * counts[f'{name}_accuracy']:.2f}",
                f"{100 * low:.2f} to {100 * high:.2f}",
                f"{counts[f'{name}_correct']} of {counts['num_test']}",
            )

    if "as_trained" in result:
        add(result, ", averaged weights")
        add(result["as_trained"], ", weights as trained")
    else:
        add(result, "")
    nonfinite = result["nonfinite"]
    caption = f"Data: {result['data_source']}"
    if nonfinite:
        caption = f"{nonfinite} images have no finite logits: not robust, not broken. {caption}"
    table.caption = Text(caption)
    return table


def attack_table(result: Mapping[str, Any]) -> Table:
    """Robust accuracy after each attack of an ensemble, with 95% Wilson intervals at both ends."""
    table = _table("after", "%", "95% interval", "attacked", "broken", "time")
    images = result["num_examples"]

    def ends(name: str) -> tuple[str, str]:
        low, high = result[f"{name}_interval"]
        return f"{100 * result[f'{name}_accuracy']:.2f}", f"{100 * low:.2f} to {100 * high:.2f}"

    table.add_row("nothing (clean)", *ends("clean"), "", "", "")
    for attack in result["attacks"]:
        table.add_row(
            attack["name"],
            f"{100 * attack['accuracy']:.2f}",
            "",
            f"{attack['num_attacked']:,}",
            f"{attack['num_broken']:,}",
            duration(attack["seconds"]),
        )
    table.add_row("all", *ends("robust"), "", "", "")
    lines = [
        f"{result['threat_model']['norm']} {result['threat_model']['epsilon']:.4g}, "
        f"{images:,} images. Data: {result['data_source']}"
    ]
    if result["num_nonfinite"]:
        lines.append(
            f"{result['num_nonfinite']} images have no finite logits: not robust, not broken."
        )
    table.caption = Text("\n".join(lines + [f"Careful: {text}" for text in result["warnings"]]))
    return table


EXACT_METHODS = ("exact", "neuron")
_UNRESOLVED = (
    "Unbiased before the root. Unresolved: the estimate of the mean square is not positive, "
    "give more probes. "
)


def hessian_table(result: Mapping[str, Any]) -> Table:
    """The Hessian norm by layer with its 95% interval, the whole network last."""
    table = _table("layer", "parameters", "Hessian norm", "95% interval")
    for part in [*result["layers"], {**result, "name": "all"}]:
        rms, ends = part["rms"], part["mean_square_interval"]
        table.add_row(
            Text(part["name"]),
            f"{part['num_parameters']:,}",
            "unresolved" if rms is None else number(rms),
            _norm_interval(*ends),
        )
    is_exact = result["method"] in EXACT_METHODS
    table.caption = Text(
        f"sqrt(mean H_kk^2), equation (8): {result['method']}, "
        f"{count(result['num_products'], 'product')} over "
        f"{count(result['num_examples'], 'image')}. {'' if is_exact else _UNRESOLVED}"
        f"Data: {result['data_source']}"
    )
    return table


def _norm_interval(low: float | None, high: float | None) -> str:
    """Of the norm, from its square's; a square's end below 0 says no more than 0 does."""
    if low is None or high is None:
        return ""
    return "exact" if low == high else " to ".join(number(max(x, 0) ** 0.5) for x in (low, high))


def words_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None
) -> Table:
    """Words in columns, the first at the left."""
    table = _table(*columns)
    table.title = None if title is None else Text(title)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def claims_table(judged: Sequence[Judged]) -> Table:
    """Each claim with what all say together, and below it every finding."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for column in ("claim", "estimate, 95% interval", "P", "verdict"):
        table.add_column(column, overflow="fold", no_wrap=column == "verdict")
    studies = {finding.study for one in judged for finding in one.findings} - {""}
    for one in judged:
        table.add_row(Text(one.claim.text, "bold"), "", "", Text(one.verdict, "bold"))
        for finding in one.findings:
            words = [finding.study, finding.subject] if len(studies) > 1 else [finding.subject]
            table.add_row(
                Text("  " + ", ".join(filter(None, words))),
                Text("\n".join(filter(None, [finding.estimate, finding.note]))),
                Text(probability(finding.probability)),
                Text(finding.verdict),
            )
        table.add_section()
    table.caption = Text(
        "95% intervals over seeds and test images. P: probability that the claim holds for "
        f"networks trained like these: {'; '.join(sorted(studies))}."
    )
    return table


def _agrees(value: float, paper_value: float) -> bool:
    return math.isclose(value, paper_value, rel_tol=_PAPER_DIGITS)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for index, column in enumerate(columns):
        is_text = index == 0 or column == "note"
        table.add_column(column, justify="left" if is_text else "right", no_wrap=column != "note")
    return table
