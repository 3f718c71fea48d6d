"""The paper's Figures 1 and 2 for any activations: their graphs, and the graphs of derivatives."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rctaf_jax.activations import Activation
from rctaf_jax.activations.curvature import LARGEST_BETA, curvature_extrema
from rctaf_jax.errors import InputError

from .plotting import INK, LOOKS, dress, new_figure
from .wording import ALPHA, SIGMA, family_label, number

_NUM_POINTS = 1201  # odd: 0 is one of them
_CROWDING = 6.0
_PRIMES = ("", "\N{PRIME}", "\N{DOUBLE PRIME}", "\N{TRIPLE PRIME}")


def activation_figure(activations: Sequence[Activation], derivative_order: int = 0) -> Figure:
    """Draws sigma or one of its derivatives, a panel for each beta and one for the baselines.

    With derivative_order = 2 the extrema of RCT-AF's sigma'' that lie in view are marked:
    sigma''(x) = alpha g''(alpha x) has them at x = u / alpha where g'' has them at u.

    Args:
      activations: what to draw, in this order.
      derivative_order: 0 for sigma (the paper's Figure 1), 2 for sigma'' (Figure 2).

    Raises:
      InputError: no activations, or a negative order.
    """
    if not activations or derivative_order < 0:
        raise InputError(
            f"got {len(activations)} activations and derivative order {derivative_order}; at "
            "least one activation and an order of 0 or more are needed."
        )
    panels: dict[str, list[Activation]] = {}
    for activation in activations:
        is_family = activation.beta is not None
        panels.setdefault(activation.name if is_family else "", []).append(activation)
    figure = new_figure(len(panels), size=(4.4, 4.0))
    for index, (family, members) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _draw(axes, members, derivative_order)
        title = family_label(family) if family else "Baselines"
        y_label = _derivative_name(derivative_order)
        dress(axes, title=title, x_label="x", y_label=y_label)
        axes.legend(loc="best", fontsize=9.5, frameon=False, labelcolor=INK, handlelength=2.6)
    return figure


def _derivative_name(order: int) -> str:
    primes = _PRIMES[order] if order < len(_PRIMES) else f"⁽{order}⁾"
    return f"{SIGMA}{primes}(x)"


def _draw(axes: Axes, members: Sequence[Activation], order: int) -> None:
    limit = 3.0 if order == 0 else 2.0
    # Sharp activations change within 1 / alpha of 0: points are closer together there.
    t = np.linspace(-1.0, 1.0, _NUM_POINTS)
    x = limit * np.sinh(_CROWDING * t) / math.sinh(_CROWDING)
    colors = _colors(members)
    for index, activation in enumerate(members):
        color = colors[index]
        y = np.asarray(activation.derivative(jnp.asarray(x), order))
        if order > 0 and activation.curvature.note:  # a derivative jumps at 0: draw no line there
            y = np.where(x == 0, np.nan, y)
        name = activation.alpha and f"{ALPHA} = {number(activation.alpha)}"
        label = name or family_label(activation.name)
        axes.plot(x, y, color=color, linewidth=1.7, label=label)
        if order == 2:
            _mark_extrema(axes, activation, limit, color)
    axes.set_xlim(-limit, limit)


def _colors(members: Sequence[Activation]) -> list[str | tuple[float, ...]]:
    """Light to dark with alpha, in hues that every eye can order; distinct hues for baselines."""
    if members[0].beta is None:
        return [LOOKS[index % len(LOOKS)].color for index in range(len(members))]
    rank = [(index + 1) / len(members) for index in range(len(members))]
    return [colormaps["viridis"](0.9 * (1 - fraction)) for fraction in rank]


def _mark_extrema(
    axes: Axes, activation: Activation, limit: float, color: str | tuple[float, ...]
) -> None:
    beta, alpha = activation.beta, activation.alpha
    if beta is None or alpha is None or beta > LARGEST_BETA:
        return
    points = [(u / alpha, alpha * value) for u, value in curvature_extrema(beta)]
    seen = [point for point in points if abs(point[0]) < limit]
    axes.plot(*zip(*seen, strict=True), linestyle="", marker="o", markersize=4, color=color)
