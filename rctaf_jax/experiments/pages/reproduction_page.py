"""What a reproduction leaves to look at: each experiment's figure and rows, and one page of all.

The page needs nothing but itself: figures and style are in it, and there is no script.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from rctaf_jax.experiments.claims import group_findings, judge
from rctaf_jax.experiments.paper.experiment import Exhibit, Experiment
from rctaf_jax.experiments.paper.folder import open_reproduction, show_parts, study_folders
from rctaf_jax.experiments.paper.scales import Scale
from rctaf_jax.experiments.results.rows import Results, as_csv, load_results, write_rows_csv
from rctaf_jax.experiments.show.plotting import inline_svg, png, svg
from rctaf_jax.files import write_bytes_atomic, write_text_atomic

from .findings import differences
from .render import render
from .sweep_page import costs, settings, where_trained

TEMPLATE = "reproduction.html.jinja"


class Section(NamedTuple):
    """An experiment on the page."""

    experiment: Experiment
    exhibit: Exhibit
    panels: Sequence[Markup]


class StudySection(NamedTuple):
    """A study on the page: what it was, where it ran, what it cost; `where` as `where_trained`."""

    name: str
    results: Results
    differences: Sequence[str]
    settings: Sequence[tuple[str, str]]
    costs: Sequence[tuple[str, str]]
    where: str | None


def write_exhibit(folder: Path, experiment: Experiment, scale: Scale) -> Exhibit:
    """Writes `figure.png`, `figure.svg` and, last, `rows.csv` of an experiment."""
    own = folder / experiment.name
    own.mkdir(exist_ok=True)
    exhibit = experiment.show(show_parts(folder, experiment, scale), own)
    write_bytes_atomic(own / "figure.png", png(exhibit.figure))
    write_text_atomic(own / "figure.svg", svg(exhibit.figure))
    write_text_atomic(own / "rows.csv", as_csv(exhibit.records))
    return exhibit


def write_page(folder: Path) -> Path:
    """Writes `report.html`, `claims.csv` and each study's `members.csv` of what was done so far.

    Raises:
      InputError: if `folder` is no reproduction.
    """
    scale, experiments = open_reproduction(folder)
    studies = study_folders(folder)
    findings = judge(studies) if studies else []
    for study in studies:
        write_rows_csv(load_results(study), study / "members.csv")
    write_text_atomic(folder / "claims.csv", as_csv([f._asdict() for f in findings]))
    sections = [_section(folder, one, scale) for one in experiments]
    page = render(
        TEMPLATE,
        title=f"The paper at scale {scale.name}",
        scale=scale,
        judged=group_findings(findings),
        sections=sections,
        studies=[_study(path) for path in studies],
        command=f"rctaf reproduce {' '.join(one.name for one in experiments)} --scale {scale.name}",
    )
    return write_text_atomic(folder / "report.html", page)


def _section(folder: Path, experiment: Experiment, scale: Scale) -> Section:
    exhibit = experiment.show(show_parts(folder, experiment, scale), folder / experiment.name)
    panels = [
        Markup(
            inline_svg(
                panel,
                name=f"{experiment.name}-{index}",
                description=f"{experiment.title}, panel {index + 1}",
            )
        )
        for index, panel in enumerate(exhibit.panels)
    ]
    return Section(experiment, exhibit, panels)


def _study(path: Path) -> StudySection:
    results = load_results(path)
    config: dict[str, Any] = results.config
    told = {name: config[name] for name in ("data", "train", "evaluation", "hessian")}
    return StudySection(
        path.name,
        results,
        differences(results),
        settings(told),
        costs(results),
        where_trained(path, results),
    )
