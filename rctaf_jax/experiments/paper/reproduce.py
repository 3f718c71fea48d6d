"""Running experiments: what will run and how long it takes, then the networks, then what they show.

Members are trained once for all experiments that need them. Interrupted and started again, it does
what is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.studies import study_folder
from rctaf_jax.experiments.run.environment import describe_devices
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.experiments.show.tables import TextTable, text_table
from rctaf_jax.experiments.show.terminal import say
from rctaf_jax.experiments.show.wording import duration
from rctaf_jax.experiments.sweep.members import SweepMember
from rctaf_jax.experiments.sweep.setup import Engine, Sweep, open_sweep, resolve_study
from rctaf_jax.experiments.sweep.sweep import run_members, settle_damaged
from rctaf_jax.experiments.sweep.unfinished import is_done

from .estimate import estimate_study
from .experiment import Exhibit, Experiment, Own
from .folder import claim_reproduction, needed_members
from .registry import lacks
from .reproduction import ReproductionPage, write_exhibit, write_page
from .scales import ExperimentScale

ASK_AFTER = 3600.0


class ReproductionPlan(NamedTuple):
    """What will be done.

    Attributes:
      sweeps: an open study each.
      members: the members it needs.
      lines: a study or an experiment's own measurements each.
    """

    sweeps: Mapping[str, Sweep]
    members: Mapping[str, Sequence[SweepMember]]
    lines: Sequence["Line"]

    @property
    def seconds(self) -> float | None:
        """Of all that is missing; None if that was not tried."""
        known = [line.seconds for line in self.lines if line.seconds is not None]
        return sum(known) if len(known) == len(self.lines) else None

    @property
    def duration(self) -> str:
        """How long all that is missing takes, in words."""
        return "unknown" if self.seconds is None else f"about {duration(self.seconds)}"


class Line(NamedTuple):
    """One piece of work.

    Attributes:
      name, what: of it.
      missing, total: networks to train, and in all.
      seconds: how long it will take; None if that was not tried.
    """

    name: str
    what: str
    missing: int
    total: int
    seconds: float | None


def reproduce(
    experiments: Sequence[Experiment],
    scale: ExperimentScale,
    folder: Path,
    command: str,
    console: Console,
    *,
    is_sure: Callable[[str], bool],
    engine: Engine = run_members,
    elsewhere: str | None = None,
    retrain: bool = False,
) -> ReproductionPage:
    """Run experiments at a scale, and write their figures and the page.

    Args:
      experiments: in order; those that the scale cannot have are left out with a word.
      scale: see `scales`.
      folder: made, or gone on with.
      command: written down.
      console: for progress.
      is_sure: asked with a sentence if it takes more than an hour, or nobody knows how long.
      engine: trains and measures members.
      elsewhere: on what it does so if not on this process's devices, in a few words; then no
        trial says how long it takes.
      retrain: train members again whose files cannot be read.

    Returns:
      The page and its verdicts.

    Raises:
      InputError: if the folder is something else, no experiment can run, or one says no.
      Preempted: on SIGTERM, after a checkpoint.
    """
    possible = _possible(experiments, scale, console)
    if elsewhere and (own := [one.name for one in possible if one.own is not None]):
        raise InputError(f"{', '.join(own)} measures this machine: leave out --engine ray for it.")
    claim_reproduction(folder, scale, possible)
    plan = plan_reproduction(
        possible, scale, folder, command, console, is_tried=not elsewhere, retrain=retrain
    )
    show_plan(plan, possible, scale, folder, elsewhere or describe_devices(), console)
    is_long = plan.seconds is None or plan.seconds > ASK_AFTER
    if is_long and not is_sure(f"How long this takes: {plan.duration}."):
        raise InputError("nothing was started; --yes starts it without a question.")
    done: set[str] = set()
    for experiment in possible:
        for study in (part.study for part in experiment.parts(scale)):
            if study not in done:
                with SweepProgress(console) as progress:
                    engine(plan.sweeps[study], plan.members[study], progress)
                done.add(study)
        if experiment.own is not None:
            experiment.own.run(scale, folder / experiment.name, console)
        show_exhibit(write_exhibit(folder, experiment, scale), experiment, folder, console)
    return write_page(folder)


def show_exhibit(exhibit: Exhibit, experiment: Experiment, folder: Path, console: Console) -> None:
    """Print an experiment's table, what to mind, and where its figure is."""
    console.print(text_table(exhibit.table, experiment.title))
    for sentence in [*exhibit.remarks, f"Figure: {folder / experiment.name / 'figure.png'}"]:
        say(console, sentence)


def _possible(
    experiments: Sequence[Experiment], scale: ExperimentScale, console: Console
) -> list[Experiment]:
    """Those whose studies the scale has.

    Raises:
      InputError: if there is none.
    """
    impossible = {one.name: lacks(one, scale) for one in experiments if lacks(one, scale)}
    sentences = [
        f"{name} is not of scale {scale.name}, which has no study {', '.join(studies)}"
        for name, studies in impossible.items()
    ]
    possible = [one for one in experiments if one.name not in impossible]
    if not possible:
        raise InputError(f"{'; '.join(sentences)}: choose a larger --scale.")
    for sentence in sentences:
        say(console, f"{sentence}: left out.")
    return possible


def plan_reproduction(
    experiments: Sequence[Experiment],
    scale: ExperimentScale,
    folder: Path,
    command: str,
    console: Console,
    *,
    is_tried: bool,
    retrain: bool,
) -> ReproductionPlan:
    """Open every study, and try a little of each if it is to be tried.

    Raises:
      InputError: if a folder belongs to another configuration, or data are not there.
    """
    members, sweeps = needed_members(experiments, scale), {}
    for study in members:
        resolved = resolve_study(scale.studies[study])
        sweeps[study] = open_sweep(resolved, study_folder(folder, study), command)
        settle_damaged(sweeps[study].folder, members[study], retrain=retrain)
    # Measurements of their own first, since they forget what a study's trial has compiled.
    own_lines = [
        _own_line(one.name, one.own, scale, folder, console) for one in experiments if one.own
    ]
    lines = []
    for study, sweep in sweeps.items():
        with console.status(f"a short trial of {study} ..."):
            lines.append(_study_line(study, sweep, members[study], is_tried))
    return ReproductionPlan(sweeps, members, [*lines, *own_lines])


def _own_line(name: str, own: Own, scale: ExperimentScale, folder: Path, console: Console) -> Line:
    with console.status(f"a short trial of {name} ..."):
        seconds = own.estimate(scale, folder / name)
    return Line(name, "measurements of its own", 0, 0, seconds)


def _study_line(study: str, sweep: Sweep, members: Sequence[SweepMember], is_tried: bool) -> Line:
    train = sweep.config.train
    what = f"{train.model} x {train.width:g}, {sweep.dataset.name}, {train.epochs} epochs"
    missing = sum(not is_done(sweep.folder, member) for member in members)
    seconds = estimate_study(sweep, members) if is_tried or not missing else None
    return Line(study, what, missing, len(members), seconds)


def show_plan(
    plan: ReproductionPlan,
    experiments: Sequence[Experiment],
    scale: ExperimentScale,
    folder: Path,
    device: str,
    console: Console,
) -> None:
    """Print what will run, how long it will take, and where results go."""
    names = ", ".join(one.name for one in experiments)
    rows = [
        (
            line.name,
            line.what,
            f"{line.missing} of {line.total}" if line.total else "",
            "unknown" if line.seconds is None else duration(line.seconds),
        )
        for line in plan.lines
    ]
    sentences = [
        f"{names} at scale {scale.name}, on {device}.",
        scale.about,
        f"Results go to {folder}.",
    ]
    for sentence in sentences:
        say(console, sentence)
    if rows:
        console.print(text_table(TextTable(("", "", "to train", "about"), rows)))
        say(console, f"In all: {plan.duration}.")
