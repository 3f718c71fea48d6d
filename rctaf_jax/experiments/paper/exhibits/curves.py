"""What the curve experiments share: records, a table, and lines of one or several studies."""

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes

from rctaf_jax.config import SweepConfig
from rctaf_jax.experiments.paper.experiment import Exhibit, Record, Shown
from rctaf_jax.experiments.results.figures import Panel, Series, draw_panels
from rctaf_jax.experiments.results.phrasing import accuracy_short, norm_width
from rctaf_jax.experiments.results.row import flat_row
from rctaf_jax.experiments.results.summary import Summary, summarise
from rctaf_jax.experiments.show.plotting import INK, LOOKS
from rctaf_jax.experiments.show.tables import TextTable
from rctaf_jax.experiments.show.wording import (
    ALPHA,
    CURVATURE,
    SIGMA,
    family_label,
    network_label,
    number,
)


def exhibit_of(
    panels: Sequence[Panel], shown: Mapping[str, Shown], *, with_hessian: bool = False
) -> Exhibit:
    """Panels, with a line for each network in the file and one for each activation in the table."""
    return Exhibit(
        draw_panels(panels),
        records(shown),
        summary_grid(shown, with_hessian=with_hessian),
        remarks(shown),
    )


def relabelled(shown: Mapping[str, Shown], label: Callable[[SweepConfig], str]) -> dict[str, Shown]:
    """Parts labelled by what their networks were trained as."""
    return {study: part._replace(label=label(part.results.config)) for study, part in shown.items()}


def setting_label(config: SweepConfig) -> str:
    """Method, network, data and length of training."""
    train, data = config.train, config.data
    size = "" if data.image_size is None else f" at {data.image_size}x{data.image_size}"
    network = network_label(train.model, train.width)
    return f"{train.method.upper()}, {network}, {data.name}{size}, {train.epochs} epochs"


def titled(panel: Panel, title: str) -> Panel:
    """A panel under another title."""

    def draw(axes: Axes) -> None:
        panel(axes)
        axes.set_title(title, loc="left", fontsize=12, color=INK)

    return draw


def by_study(shown: Mapping[str, Shown]) -> list[Series]:
    """A line for each study, of one family."""
    return [
        Series(part.label, LOOKS[index], summarise(part.results.rows), part.results.rows)
        for index, part in enumerate(shown.values())
    ]


def records(shown: Mapping[str, Shown]) -> list[Record]:
    """A line for each network, with the study that it belongs to."""
    return [
        {"study": name, **flat_row(row)}
        for name, part in shown.items()
        for row in part.results.rows
    ]


def summary_grid(shown: Mapping[str, Shown], *, with_hessian: bool) -> TextTable:
    """Means and 95% intervals of every activation; narrow enough for a terminal."""
    columns = [SIGMA, ALPHA, CURVATURE, "clean %", "robust %"]
    columns += ["Hessian norm"] if with_hessian else []
    rows = [
        [part.label, *_cells(summary, with_hessian)]
        for part in shown.values()
        for summary in summarise(part.results.rows)
    ]
    if len(shown) == 1:
        return TextTable([*columns, "seeds"], [row[1:] for row in rows])
    return TextTable(["trained by", *columns, "seeds"], rows)


def _cells(summary: Summary, with_hessian: bool) -> Sequence[str]:
    cells = [
        family_label(summary.family).removeprefix("RCT-AF "),
        number(summary.alpha),
        number(summary.max_curvature),
        accuracy_short(summary.clean),
        accuracy_short(summary.robust),
    ]
    cells += [norm_width(summary.hessian)] if with_hessian else []
    return [*cells, str(summary.num_seeds)]


def remarks(shown: Mapping[str, Shown]) -> list[str]:
    """What lacks: members not there, and members that diverged."""
    sentences = []
    for part in shown.values():
        bad = [row for row in part.results.rows if not row.is_done]
        if part.results.missing:
            lacking = ", ".join(part.results.missing)
            sentences.append(f"{part.label}: not trained yet: {lacking}.")
        if bad:
            diverged = ", ".join(row.id for row in bad)
            sentences.append(f"{part.label}: diverged, and in no mean: {diverged}.")
    return sentences
