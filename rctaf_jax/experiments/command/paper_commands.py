"""The subcommands that are about the paper: its experiments, claims, appendix and activations."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from rctaf_jax.activations import parse_activation
from rctaf_jax.config import EngineConfig
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.appendix.validate import validate_appendix
from rctaf_jax.experiments.claims import group_findings, judge_studies
from rctaf_jax.experiments.claims.table import claims_table
from rctaf_jax.experiments.paper.registry import experiments_named
from rctaf_jax.experiments.paper.reproduce import reproduce
from rctaf_jax.experiments.paper.scales import scale_named
from rctaf_jax.experiments.results.studies import open_studies
from rctaf_jax.experiments.run.environment import describe_devices
from rctaf_jax.experiments.show.activation_figure import activation_figure
from rctaf_jax.experiments.show.plotting import save_figure
from rctaf_jax.experiments.show.tables import curvature_table
from rctaf_jax.experiments.show.terminal import confirm, say
from rctaf_jax.experiments.sweep.engines import describe_engine, run_with

Flat = tyro.conf.arg(name="")


@dataclasses.dataclass(frozen=True)
class Reproduce:
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
    yes: bool = False
    """Start without asking, however long it takes."""
    output: Path | None = None
    """Results folder; runs/reproduce-SCALE when left out."""
    engine: Annotated[EngineConfig, Flat] = EngineConfig()

    def run(self, console: Console, command: str) -> None:
        """Plan, train, show."""
        engine = run_with(self.engine)
        experiments = experiments_named(self.names)
        scale = scale_named(self.scale, self.data_dir)
        folder = self.output or Path("runs") / f"reproduce-{scale.name}"
        page = reproduce(
            experiments,
            scale,
            folder,
            command,
            console,
            is_sure=lambda sentence: self.yes or confirm(sentence, console),
            engine=engine,
            elsewhere=None if self.engine.engine == "local" else describe_engine(self.engine),
        )
        if page.judged:
            console.print(claims_table(page.judged))
        say(console, f"Report: {page.path}")


@dataclasses.dataclass(frozen=True)
class Claims:
    """Put the paper's claims to the networks in results folders: estimates, intervals, verdicts."""

    folders: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER...", help_behavior_hint="(required)"),
    ]
    """Of `rctaf sweep` or `rctaf reproduce`; those of other settings speak of generality."""

    def run(self, console: Console, command: str) -> None:
        """Read, judge, print."""
        if not self.folders:
            raise InputError("no folder was named: give one or more of rctaf sweep or reproduce.")
        studies = [study for folder in self.folders for study in open_studies(folder)]
        if studies:
            console.print(claims_table(group_findings(judge_studies(studies))))


@dataclasses.dataclass(frozen=True)
class ValidateAppendix:
    """Put the paper's derivation of the Hessian diagonal to the test, on small exact networks.

    Perceptrons of one to six hidden layers in float64, before and after training: the diagonal by
    autodiff, by the paper's recursion and by the exact one. Under two minutes on two cores.
    """

    output: Path = Path("runs/validate-appendix")
    """Folder for the results."""

    def run(self, console: Console, command: str) -> None:
        """Measure, print tables, draw."""
        say(console, f"Validating the appendix on {describe_devices()}.")
        validate_appendix(self.output, console, command)


PAPER_ALPHAS = (1, 5, 10, 15, 20)
PAPER_FAMILY = tuple(f"rct-af:beta={b},alpha={a}" for b in (0, 1, 2) for a in PAPER_ALPHAS)
TABLE = ("relu", "leaky-relu", "elu", "selu", "gelu", "softplus", "swish", "mish", "identity")


@dataclasses.dataclass(frozen=True)
class Activations:
    """Draw activations and their second derivatives, and print their curvatures.

    Without any name: Figures 1 and 2 of the paper, and Table 1's activations.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Such as rct-af:beta=2,curvature=7 or gelu."""
    output: Path = Path("runs/activations")
    """Folder for the pictures."""

    def run(self, console: Console, command: str) -> None:
        """Draw, print."""
        drawn = [parse_activation(name) for name in self.names or PAPER_FAMILY]
        listed = drawn if self.names else drawn + [parse_activation(name) for name in TABLE]
        self.output.mkdir(parents=True, exist_ok=True)
        console.print(curvature_table(listed))
        for order, name in ((0, "activations"), (2, "second-derivatives")):
            for path in save_figure(activation_figure(drawn, order), self.output / name):
                say(console, f"Figure: {path}")
