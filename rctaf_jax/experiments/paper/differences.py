r"""Differences of accuracies from one activation's, worked out seed by seed.

    d_{as} = x_{as} - x_{rs},    mean_s d_{as} -+ t_{0.975, n - 1} sd_s(d_{as}) / \sqrt{n}

over the n seeds that both have. What a seed does to all activations drops out. The interval says
what other seeds would change, on the same test images; with fewer than three there is none.
"""

from collections.abc import Sequence
from typing import Literal

from rctaf_jax.experiments.results.row import Row
from rctaf_jax.experiments.results.summary import IntervalEstimate, paired_estimates


def less_reference(
    rows: Sequence[Row], reference: str, quantity: Literal["clean_correct", "robust_correct"]
) -> dict[str, IntervalEstimate]:
    """Each activation's accuracy less the reference's, by the activation's text, as fractions.

    Args:
      rows: of one study.
      reference: an activation's text; if it was not measured there are no differences.
      quantity: which accuracy.
    """
    values: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.is_done and row.num_test:
            correct = getattr(row, quantity)
            values.setdefault(row.activation, {})[row.seed] = correct / row.num_test
    base = values.get(reference, {})
    found = {
        activation: _mean({seed: own[seed] - base[seed] for seed in own if seed in base})
        for activation, own in values.items()
        if activation != reference
    }
    return {activation: mean for activation, mean in found.items() if mean is not None}


def _mean(differences: dict[int, float]) -> IntervalEstimate | None:
    return paired_estimates([differences])[0]
