"""What was measured of one network, as tables: of its accuracy, an attack, its Hessian norm."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from rctaf_jax.experiments.show.tables import empty_table
from rctaf_jax.experiments.show.wording import count, duration, number

_UNRESOLVED = (
    "Unbiased before the root. Unresolved: the estimate of the mean square is not positive, "
    "give more probes. "
)


def evaluation_table(result: Mapping[str, Any]) -> Table:
    """Clean and robust accuracy of one network with their 95% Wilson intervals."""
    table = empty_table("accuracy", "%", "95% interval", "images")

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
    table = empty_table("after", "%", "95% interval", "attacked", "broken", "time")
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


def curve_table(result: Mapping[str, Any]) -> Table:
    """Robust accuracy over the radius, with 95% Wilson intervals."""
    table = empty_table("radius", "%", "95% interval", "images")
    for name, kind, row in [
        ("0 (clean)", "clean", result),
        *((row["eps"], "robust", row) for row in result["radii"]),
    ]:
        low, high = (100 * end for end in row[f"{kind}_interval"])
        accuracy, count = 100 * row[f"{kind}_accuracy"], row[f"{kind}_correct"]
        table.add_row(name, f"{accuracy:.2f}", f"{low:.2f} to {high:.2f}", f"{count:,}")
    lines = [
        f"{result['threat_model']['norm']}, {result['num_examples']:,} images, each attacked up to "
        f"the radius that breaks it. Data: {result['data_source']}"
    ]
    table.caption = Text("\n".join(lines + [f"Careful: {text}" for text in result["warnings"]]))
    return table


def hessian_table(result: Mapping[str, Any]) -> Table:
    """The Hessian norm by layer with its 95% interval, the whole network last."""
    table = empty_table("layer", "parameters", "Hessian norm", "95% interval")
    for part in [*result["layers"], {**result, "name": "all"}]:
        rms, ends = part["rms"], part["mean_square_interval"]
        table.add_row(
            Text(part["name"]),
            f"{part['num_parameters']:,}",
            "unresolved" if rms is None else number(rms),
            _norm_interval(*ends),
        )
    is_exact = result["relative_error"] == 0
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
