"""What a reproduction found as one page: verdicts, each experiment, and what was trained.

The page needs nothing but itself: figures and style are in it, and there is no script.
"""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from rctaf_jax.experiments.claims import Judged, divergence_sentences, errors_to_expect
from rctaf_jax.experiments.results.config_file import as_json
from rctaf_jax.experiments.results.rows import Results
from rctaf_jax.experiments.results.studies import Study
from rctaf_jax.experiments.show.tables import TextTable

from .findings import differences
from .origin import costs, settings, where_trained
from .render import render


class ExperimentSection(NamedTuple):
    """An experiment on the page.

    Attributes:
      name, title, paper: as the experiment has them.
      panels: of its figure, as `panels_of` gives them.
      table: below the figure.
      remarks: sentences to mind.
    """

    name: str
    title: str
    paper: str
    panels: Sequence[Markup]
    table: TextTable
    remarks: Sequence[str]


class StudySection(NamedTuple):
    """A study on the page: what it was, where it ran, what it cost; `where` as `where_trained`."""

    name: str
    results: Results
    differences: Sequence[str]
    settings: Sequence[tuple[str, str]]
    costs: Sequence[tuple[str, str]]
    where: str | None


def render_reproduction(
    *,
    title: str,
    about: str,
    judged: Sequence[Judged],
    sections: Sequence[ExperimentSection],
    studies: Sequence[Study],
    command: str,
) -> str:
    """The page as HTML; every text in it is escaped.

    Args:
      title: of the page.
      about: the scale, in a sentence or two.
      judged: the claims that were judged.
      sections: an experiment each.
      studies: whose networks the experiments show.
      command: that makes it again.
    """
    return render(
        "reproduction.html.jinja",
        title=title,
        about=about,
        judged=judged,
        errors=errors_to_expect(judged),
        shares=divergence_sentences(studies),
        sections=sections,
        studies=[_study_section(study) for study in studies],
        command=command,
    )


def _study_section(study: Study) -> StudySection:
    config = as_json(study.results.config)
    told = {name: config[name] for name in ("data", "train", "evaluation", "hessian")}
    return StudySection(
        study.folder.name,
        study.results,
        differences(study.results),
        settings(told),
        costs(study.results),
        where_trained(study),
    )
