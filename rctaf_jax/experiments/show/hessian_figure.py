"""A Hessian diagonal as one figure: its norm by layer, and where the entries of each layer lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .plotting import GREY, INK, LOOKS, dress
from .wording import count

PANEL_WIDTH, ROW_HEIGHT, MARGIN = 5.6, 0.21, 1.4  # inches
NUM_BINS = 120


def hessian_figure(result: Mapping[str, Any], diagonal: Any | None) -> Figure:
    """The norm of each layer with its 95% interval, and the distribution of its entries.

    Args:
      result: of `hessian.json`.
      diagonal: H_kk, like params; None leaves out the second panel.
    """
    layers = result["layers"]
    panels = 1 if diagonal is None else 2
    height = MARGIN + ROW_HEIGHT * max(len(layers), 8)
    figure = Figure(figsize=(1.2 + PANEL_WIDTH * panels, height), layout="constrained")
    norms = figure.add_subplot(1, panels, 1)
    _draw_norms(norms, layers)
    names = [layer["name"] for layer in layers]
    norms.set_yticks(range(len(names)), names, fontsize=8)
    norms.set_ylim(len(names) - 0.4, -0.6)
    if diagonal is not None:
        entries = figure.add_subplot(1, panels, 2, sharey=norms)
        _draw_entries(entries, figure, jax.tree.leaves(diagonal))
        if result["relative_error"]:
            entries.set_xlabel("H_kk, the estimate's noise included (asinh axis)", color=INK)
        entries.tick_params(labelleft=False)
    how = f"{result['method']}, {count(result['num_products'], 'product')}"
    examples = count(result["num_examples"], "image")
    figure.suptitle(f"Hessian diagonal of {result['activation']}: {how}, {examples}", color=INK)
    return figure


def _draw_norms(axes: Axes, layers: Sequence[Mapping[str, Any]]) -> None:
    look = LOOKS[0]
    known = [layer["rms"] for layer in layers if layer["rms"]]
    # An interval that reaches 0 or below has no end on a logarithmic axis: it runs out of it.
    left = min(known, default=1e-3) / 3
    for row, layer in enumerate(layers):
        low, high = (np.nan if end is None else end for end in layer["mean_square_interval"])
        if layer["rms"] is not None:
            axes.plot([layer["rms"]], [row], color=look.color, marker=look.marker, markersize=5)
            if high > 0:
                ends = [np.sqrt(low) if low > 0 else left / 10, np.sqrt(high)]
                axes.plot(ends, [row, row], color=look.color, alpha=0.5)
        elif high > 0:
            axes.plot([np.sqrt(high)], [row], color=GREY, marker="<", linestyle="none")
    axes.set_xscale("log")
    axes.set_xlim(left=left)
    dress(axes, title="Norm by layer, 95% interval", x_label="\u221a(mean H_kk\u00b2)", y_label="")
    if any(layer["rms"] is None for layer in layers):
        axes.set_xlabel("\u221a(mean H_kk\u00b2); \u25c2: below this, not resolved", color=INK)


def _draw_entries(axes: Axes, figure: Figure, leaves: Sequence[Float[np.ndarray, "..."]]) -> None:
    """The share of each layer's entries in each bin of a symmetric logarithmic axis."""
    flat = [np.ravel(leaf) for leaf in leaves]
    sizes = np.abs(np.concatenate(flat))
    largest = max(float(sizes.max()), 1e-30)
    # Half of the axis for what is within a decade of the typical entry and below.
    linear = max(float(np.median(sizes)), largest * 1e-6)
    edges = linear * np.sinh(np.linspace(-1, 1, NUM_BINS + 1) * np.arcsinh(largest / linear))
    edges[[0, -1]] = -largest * (1 + 1e-9), largest * (1 + 1e-9)
    shares = np.stack([np.histogram(values, edges)[0] / len(values) for values in flat])
    rows = np.arange(len(flat) + 1) - 0.5
    mesh = axes.pcolormesh(edges, rows, np.where(shares > 0, shares, np.nan), cmap="viridis_r")
    axes.set_xscale("asinh", linear_width=linear)
    axes.axvline(0, color=GREY, linewidth=0.8)
    title = "Where the entries of each layer lie"
    dress(axes, title=title, x_label="H_kk (asinh axis)", y_label="")
    axes.grid(False)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.6)
    bar.set_label("share of the layer's entries", color=INK)
