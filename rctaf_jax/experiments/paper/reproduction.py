"""What a reproduction leaves to look at: each experiment's figure and rows, and one page of all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rctaf_jax.experiments.claims import (
    Judged,
    divergence_sentences,
    group_findings,
    judge_studies,
)
from rctaf_jax.experiments.pages.render import panels_of
from rctaf_jax.experiments.pages.reproduction_page import ExperimentSection, render_reproduction
from rctaf_jax.experiments.results.rows import Results, as_csv, write_rows_csv
from rctaf_jax.experiments.results.studies import Study, open_studies, open_study, study_folder
from rctaf_jax.experiments.show.plotting import save_figure
from rctaf_jax.files import write_text_atomic

from .experiment import Exhibit, Experiment, Part, Shown
from .folder import open_reproduction
from .scales import ExperimentScale


class ReproductionPage(NamedTuple):
    """The page that was written, the verdicts on it, and what diverged."""

    path: Path
    judged: Sequence[Judged]
    diverged: Sequence[str]


def write_exhibit(folder: Path, experiment: Experiment, scale: ExperimentScale) -> Exhibit:
    """Writes `figure.png`, `figure.svg` and, last, `rows.csv` of an experiment."""
    own = folder / experiment.name
    own.mkdir(exist_ok=True)
    exhibit = make_exhibit(folder, experiment, scale, {})
    save_figure(exhibit.figure, own / "figure")
    write_text_atomic(own / "rows.csv", as_csv(exhibit.records))
    return exhibit


def write_page(folder: Path) -> ReproductionPage:
    """Writes `report.html`, `claims.csv` and each study's `members.csv` of what was done so far.

    Raises:
      InputError: if `folder` is no reproduction.
    """
    scale, experiments = open_reproduction(folder)
    studies = open_studies(folder)
    findings = judge_studies(studies)
    judged = group_findings(findings)
    for study in studies:
        write_rows_csv(study.results, study.folder / "members.csv")
    write_text_atomic(folder / "claims.csv", as_csv([f._asdict() for f in findings]))
    known = {study.folder.name: study for study in studies}
    page = render_reproduction(
        title=f"The paper at scale {scale.name}",
        about=scale.about,
        judged=judged,
        sections=[_section(one, make_exhibit(folder, one, scale, known)) for one in experiments],
        studies=studies,
        command=f"rctaf reproduce {' '.join(one.name for one in experiments)} --scale {scale.name}",
    )
    path = write_text_atomic(folder / "report.html", page)
    return ReproductionPage(path, judged, divergence_sentences(studies))


def make_exhibit(
    folder: Path, experiment: Experiment, scale: ExperimentScale, known: Mapping[str, Study]
) -> Exhibit:
    """An experiment's exhibit, other experiments' members left out.

    Args:
      folder: of the reproduction.
      experiment: whose exhibit.
      scale: of the reproduction.
      known: studies by name that were read before; others are read.
    """
    shown = {}
    for part in experiment.parts(scale):
        study = known.get(part.study) or open_study(study_folder(folder, part.study))
        shown[part.study] = Shown(part.label, restricted(study.results, part))
    return experiment.show(shown, folder / experiment.name)


def restricted(results: Results, part: Part) -> Results:
    """A study's results without the members that a part does not have."""
    ids = {member.id for member in part.members}
    rows = tuple(row for row in results.rows if row.id in ids)
    missing = tuple(sorted(ids - {row.id for row in rows}))
    return results._replace(rows=rows, num_expected=len(ids), missing=missing)


def _section(experiment: Experiment, exhibit: Exhibit) -> ExperimentSection:
    name, title = experiment.name, experiment.title
    panels = panels_of(exhibit.figure, name, title)
    return ExperimentSection(name, title, experiment.paper, panels, exhibit.table, exhibit.remarks)
