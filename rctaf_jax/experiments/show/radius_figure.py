"""Robust accuracy over the attack's radius, with Wilson's intervals."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from .plotting import LOOKS, dress, new_figure


def radius_figure(result: Mapping[str, Any]) -> Figure:
    """A curve from the clean accuracy at radius 0 on.

    Args:
      result: of `curve.json`.
    """
    clean = {**result, "epsilon": 0.0}
    points = [
        (100 * row[f"{kind}_accuracy"], *(100 * end for end in row[f"{kind}_interval"]))
        for kind, row in [("clean", clean), *(("robust", row) for row in result["radii"])]
    ]
    radii = [0.0, *(row["epsilon"] for row in result["radii"])]
    figure, look = new_figure(1), LOOKS[0]
    axes = figure.add_subplot()
    norm = result["threat_model"]["norm"]
    names = [row["eps"] for row in result["radii"]]
    dress(
        axes,
        title=f"Robust accuracy of {result['name']}",
        x_label=f"radius in {norm}",
        y_label="robust accuracy (%)",
    )
    middle, low, high = zip(*points, strict=True)
    axes.plot(radii, middle, color=look.color, marker=look.marker, markersize=5)
    axes.vlines(radii, low, high, color=look.color, alpha=0.5, linewidth=2.0)
    axes.set_xticks(radii, ["0", *names])
    axes.set_ylim(0, 100)
    return figure
