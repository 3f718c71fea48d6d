"""Figure 4: two architectures, TRADES, beta 1; which ones is up to the scale."""

from collections.abc import Mapping
from pathlib import Path

from rctaf_jax.config import SweepConfig
from rctaf_jax.experiments.paper.experiment import Exhibit, Shown
from rctaf_jax.experiments.show.wording import network_label

from .comparison import comparison


def _label(config: SweepConfig) -> str:
    return network_label(config.train.model, config.train.width)


_LINES = comparison(
    "figure-4",
    "Figure 4: two architectures",
    "ResNet-18 and WRN-28-10, trained by TRADES, both peak between 4 and 10; the wider network is "
    "more robust.",
    _label,
)


def _show(shown: Mapping[str, Shown], folder: Path) -> Exhibit:
    """The lines, and which networks they are of."""
    exhibit = _LINES.show(shown, folder)
    trained = [part.results.config for part in shown.values()]
    names = " and ".join(map(_label, trained))
    same = len({config.train.model for config in trained}) == 1
    remark = f"Here: {names}{', one architecture at two widths' if same else ''}."
    return exhibit._replace(remarks=[remark, *exhibit.remarks])


EXPERIMENT = _LINES._replace(show=_show)
