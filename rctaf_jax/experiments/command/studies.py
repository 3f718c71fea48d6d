"""The subcommands about many networks: sweep, reproduce, claims, report."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from rctaf_jax.config import EngineConfig, SweepConfig
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.show.terminal import confirm, say
from rctaf_jax.extras import check_report
from rctaf_jax.locks import alone
from rctaf_jax.values import short_name

from .schema import ConfigFile, MeasuredConfig

RETRAIN = "Train members again whose files cannot be read; without it they end the command."


@dataclasses.dataclass(frozen=True)
class SweepCommand:
    """Train networks over beta x curvature x seed, measure them, and write a report.

    Without any flag: digits, a small ResNet, TRADES; minutes on a laptop. With --data cifar10 the
    method's published recipe is the default. Interrupted and started again, it does what is
    missing.
    """

    config: SweepConfig
    preset: str | None = None
    """Where the other flags' defaults come from: digits, mnist-5k, cifar10-small or recipe."""
    defaults: ConfigFile = None
    """A config.json of a run or a sweep, or its folder, in place of a preset; flags win over it."""
    output: Path | None = None
    """Results folder; runs/sweep-DATA-MODEL-METHOD when left out."""
    retrain: Annotated[bool, tyro.conf.arg(help=RETRAIN)] = False
    engine: EngineConfig = EngineConfig()

    def run(self, console: Console, command: str) -> None:
        """Train, measure, report."""
        check_report("sweep")
        from rctaf_jax.experiments.show.progress import SweepProgress
        from rctaf_jax.experiments.sweep.engines import describe_engine, run_with
        from rctaf_jax.experiments.sweep.setup import resolve_sweep
        from rctaf_jax.experiments.sweep.sweep import run_sweep

        engine = run_with(self.engine)
        resolved = resolve_sweep(self.config)
        train, dataset = resolved.config.train, resolved.dataset
        folder = self.output or Path("runs") / (
            "-".join(
                ("sweep", *map(short_name, (self.config.data.name, train.model, train.method)))
            )
        )
        say(
            console,
            f"{len(resolved.members)} networks: {train.model} on {dataset.name}, {train.method}, "
            f"{train.norm} epsilon {train.epsilon:.4g}, {resolved.training.num_steps} steps each, "
            f"on {describe_engine(self.engine)}.\nData: {dataset.source}\n"
            f"Results go to {folder}.",
        )
        with alone(folder), SweepProgress(console) as progress:
            run_sweep(resolved, folder, command, progress, engine, retrain=self.retrain)
        show_report(folder, console)


def show_report(folder: Path, console: Console) -> None:
    """Write the report, print its table and where it is."""
    from rctaf_jax.experiments.pages.sweep_page import write_report
    from rctaf_jax.experiments.results.studies import open_study
    from rctaf_jax.experiments.results.tables import summary_table

    study = open_study(folder)
    report = write_report(study)
    console.print(summary_table(study.results))
    say(console, f"Report: {report}")


@dataclasses.dataclass(frozen=True)
class ReproduceCommand:
    """Redo figures and tables of the paper, at the scale that one can afford, and judge its claims.

    Says what will run and how long it will take, asks at more than an hour, trains each network
    once for all that need it, and ends with figures, rows and a page. Interrupted and started
    again, it does what is missing.
    """

    names: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="NAME...", help_behavior_hint="(required)"),
    ]
    """figure-1 to figure-7, table-1, table-2, or all."""
    scale: str = "digits"
    """digits (minutes a figure), cpu (up to an hour), gpu (made for one) or paper."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    defaults: MeasuredConfig = None
    yes: bool = False
    """Start without asking, however long it takes."""
    output: Path | None = None
    """Results folder; runs/reproduce-SCALE when left out."""
    retrain: Annotated[bool, tyro.conf.arg(help=RETRAIN)] = False
    engine: EngineConfig = EngineConfig()

    def run(self, console: Console, command: str) -> None:
        """Plan, train, show."""
        check_report("reproduce")
        from rctaf_jax.experiments.claims.table import claims_table
        from rctaf_jax.experiments.paper.registry import experiments_named
        from rctaf_jax.experiments.paper.reproduce import reproduce
        from rctaf_jax.experiments.paper.scales import scale_named
        from rctaf_jax.experiments.sweep.engines import describe_engine, run_with

        engine = run_with(self.engine)
        experiments = experiments_named(self.names)
        scale = scale_named(self.scale, self.data_dir)
        folder = self.output or Path("runs") / f"reproduce-{scale.name}"
        with alone(folder):
            page = reproduce(
                experiments,
                scale,
                folder,
                command,
                console,
                is_sure=lambda sentence: self.yes or confirm(sentence, console),
                engine=engine,
                elsewhere=None if self.engine.engine == "local" else describe_engine(self.engine),
                retrain=self.retrain,
            )
        if page.judged:
            console.print(claims_table(page.judged, page.diverged))
        say(console, f"Report: {page.path}")


@dataclasses.dataclass(frozen=True)
class ClaimsCommand:
    """Put the paper's claims to the networks in results folders: estimates, intervals, verdicts."""

    folders: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER...", help_behavior_hint="(required)"),
    ]
    """Of `rctaf sweep` or `rctaf reproduce`; those of other settings speak of generality."""

    def run(self, console: Console, command: str) -> None:
        """Read, judge, print."""
        check_report("claims", ["statsmodels"])
        from rctaf_jax.experiments.claims import (
            divergence_sentences,
            group_findings,
            judge_studies,
        )
        from rctaf_jax.experiments.claims.table import claims_table
        from rctaf_jax.experiments.results.studies import open_studies

        if not self.folders:
            raise InputError("no folder was named: give one or more of rctaf sweep or reproduce.")
        studies = [study for folder in self.folders for study in open_studies(folder)]
        if not studies:
            named = ", ".join(map(str, self.folders))
            raise InputError(f"no network to judge by in {named}: reproduce a figure that has one.")
        judged = group_findings(judge_studies(studies))
        console.print(claims_table(judged, divergence_sentences(studies)))


@dataclasses.dataclass(frozen=True)
class ReportCommand:
    """Write the report of a sweep or a reproduction again, finished or not."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Of `rctaf sweep` or `rctaf reproduce`."""

    def run(self, console: Console, command: str) -> None:
        """Read, draw, write."""
        check_report("report")
        from rctaf_jax.experiments.paper.reproduction import write_page
        from rctaf_jax.experiments.results.studies import is_reproduction

        if is_reproduction(self.folder):
            say(console, f"Report: {write_page(self.folder).path}")
        else:
            show_report(self.folder, console)
