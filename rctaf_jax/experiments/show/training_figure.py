"""Training over its epochs: the loss, and what validation found."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from .plotting import GREY, LOOKS, dress, new_figure


class ValidatedEpoch(NamedTuple):
    """Accuracies after an epoch, from 1, on the images held out."""

    epoch: int
    clean: float
    robust: float


def training_figure(
    losses: Sequence[tuple[int, float]],
    validated: Sequence[ValidatedEpoch],
    *,
    best_epoch: int,
    attack: str,
) -> Figure:
    """The training loss, and clean and robust accuracy on the images held out.

    Args:
      losses: epoch, from 1, and mean loss.
      validated: in order.
      best_epoch: whose network is kept as the best.
      attack: in a few words.
    """
    figure = new_figure(2)
    loss, accuracy = figure.subplots(1, 2)
    mark = LOOKS[2]
    epochs, values = zip(*losses, strict=True)
    loss.plot(epochs, values, color=mark.color, marker=mark.marker, markersize=3)
    dress(loss, title="Training loss", x_label="epoch", y_label="mean loss")
    places = [each.epoch for each in validated]
    series = {
        "clean": [100 * each.clean for each in validated],
        f"robust ({attack})": [100 * each.robust for each in validated],
    }
    for (name, shares), look in zip(series.items(), LOOKS, strict=False):
        style = {"color": look.color, "marker": look.marker, "linestyle": look.dashes}
        accuracy.plot(places, shares, label=name, markersize=3, **style)
    accuracy.axvline(best_epoch, color=GREY, linewidth=1, linestyle=":", label="best")
    title = "Accuracy on the images held out"
    dress(accuracy, title=title, x_label="epoch", y_label="accuracy (%)")
    accuracy.set_ylim(0, 100)
    accuracy.legend(frameon=False, fontsize=10)
    for axes in (loss, accuracy):
        axes.set_xlim(0.5, max(epochs) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
