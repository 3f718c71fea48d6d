"""The subcommands: a dataclass each, whose fields are the flags and whose docstring is the help."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from rctaf_jax import processes
from rctaf_jax.config import (
    PRESETS,
    AttackConfig,
    ClusterConfig,
    DataConfig,
    DiagonalConfig,
    EngineConfig,
    EvaluationConfig,
    SweepConfig,
    TrainConfig,
    preset_for,
)
from rctaf_jax.data import load
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.pages.sweep_page import write_report
from rctaf_jax.experiments.paper.reproduction import write_page
from rctaf_jax.experiments.results.studies import is_reproduction, open_study
from rctaf_jax.experiments.results.tables import summary_table
from rctaf_jax.experiments.run.attack import attack_run
from rctaf_jax.experiments.run.environment import describe_devices
from rctaf_jax.experiments.run.evaluate import evaluate_run
from rctaf_jax.experiments.run.folder import RunConfig, load_data
from rctaf_jax.experiments.run.hessian import hessian_run
from rctaf_jax.experiments.run.measure import check_evaluation
from rctaf_jax.experiments.run.tables import attack_table, evaluation_table, hessian_table
from rctaf_jax.experiments.run.train import resolve_run, train_run
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.experiments.show.tables import dataset_table
from rctaf_jax.experiments.show.terminal import say
from rctaf_jax.experiments.sweep.engines import describe_engine, run_with
from rctaf_jax.experiments.sweep.members import expand
from rctaf_jax.experiments.sweep.sweep import resolve_sweep, run_sweep
from rctaf_jax.training.recipe import num_steps

from .paper_commands import Activations, Claims, Reproduce, ValidateAppendix

Flat = tyro.conf.arg(name="")
SILENT = Console(quiet=True)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Train networks over beta x curvature x seed, measure them, and write a report.

    Without any flag: digits, a small ResNet, TRADES; minutes on a laptop. With --data cifar10 the
    method's published recipe is the default. Interrupted and started again, it does what is
    missing.
    """

    config: Annotated[SweepConfig, Flat]
    preset: str | None = None
    """Where the other flags' defaults come from: digits, cifar10-small or recipe."""
    output: Path | None = None
    """Results folder; runs/sweep-DATA-MODEL-METHOD when left out."""
    engine: Annotated[EngineConfig, Flat] = EngineConfig()

    def run(self, console: Console, command: str) -> None:
        """Train, measure, report."""
        engine = run_with(self.engine)
        config, dataset = resolve_sweep(self.config)
        train = config.train
        folder = self.output or Path("runs") / (
            f"sweep-{Path(config.data.name).stem}-{train.model}-{train.method}"
        )
        say(
            console,
            f"{len(expand(config))} networks: {train.model} on {dataset.name}, {train.method}, "
            f"{train.norm} epsilon {train.epsilon:.4g}, {num_steps(train, dataset)} steps each, "
            f"on {describe_engine(self.engine)}.\nData: {dataset.source}\nResults go to {folder}.",
        )
        with SweepProgress(console) as progress:
            run_sweep(config, dataset, folder, command, progress, engine)
        show_report(folder, console)


def show_report(folder: Path, console: Console) -> None:
    """Write the report, print its table and where it is."""
    study = open_study(folder)
    report = write_report(study)
    console.print(summary_table(study.results))
    say(console, f"Report: {report}")


@dataclasses.dataclass(frozen=True)
class Train:
    """Train one network, its batches shared by all devices, and evaluate it.

    Checkpoints are written as it goes; the same command goes on from the newest.
    """

    data: Annotated[DataConfig, Flat]
    train: Annotated[TrainConfig, Flat]
    evaluation: Annotated[EvaluationConfig, Flat] = EvaluationConfig()
    activation: str = "rct-af:beta=1,curvature=7"
    """rct-af:beta=B,curvature=C or rct-af:beta=B,alpha=A, or a baseline such as relu or gelu."""
    seed: int = 0
    """Of the weights, the order of the data and the attack's starts."""
    preset: str | None = None
    """Where the other flags' defaults come from: digits, cifar10-small or recipe."""
    cluster: Annotated[ClusterConfig, Flat] = ClusterConfig()
    output: Path | None = None
    """Run folder; runs/train-DATA-MODEL-METHOD-ACTIVATION-SEED when left out."""

    def run(self, console: Console, command: str) -> None:
        """Train, evaluate; several processes only train."""
        check_evaluation(self.evaluation)
        cluster = self.cluster
        if cluster.distributed:
            with processes.joined(
                cluster.coordinator, cluster.num_processes, cluster.process_index
            ):
                folder = self.train_here(console if processes.is_first() else SILENT, command)
                if processes.is_first():
                    say(console, f"Trained. To measure it: rctaf evaluate {folder}")
            return
        if cluster != ClusterConfig():
            raise InputError(
                "coordinator, num-processes and process-index are for several processes: "
                "give --distributed too."
            )
        Evaluate(self.train_here(console, command), self.evaluation).run(console, command)

    def train_here(self, console: Console, command: str) -> Path:
        """Train, on all devices of all processes; returns the run's folder."""
        dataset = load_data(self.data)
        stated = RunConfig(self.data, self.train, self.activation, self.seed)
        config = resolve_run(stated, dataset)
        name = config.activation.replace(":", "-").replace(",", "-")
        folder = self.output or Path("runs") / (
            f"train-{Path(self.data.name).stem}-{self.train.model}-{self.train.method}-{name}"
            f"-seed{self.seed}"
        )
        say(
            console,
            f"{self.train.model} with {config.activation} on {dataset.name}, {self.train.method}, "
            f"{num_steps(config.train, dataset)} steps on {describe_devices()}.\n"
            f"Data: {dataset.source}\nResults go to {folder}.",
        )
        train_run(config, dataset, folder, command, console)
        return folder


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure clean and robust accuracy of a trained network, image by image."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of `rctaf train`, or one below members/ of a sweep."""
    evaluation: Annotated[EvaluationConfig, Flat] = EvaluationConfig()

    def run(self, console: Console, command: str) -> None:
        """Evaluate, print a table."""
        say(console, f"Evaluating {self.folder} on {describe_devices()}.")
        result = evaluate_run(self.folder, self.evaluation, command)
        console.print(evaluation_table(result))
        say(console, f"Results: {self.folder / 'evaluation.json'}")


@dataclasses.dataclass(frozen=True)
class Attack:
    """Measure robust accuracy of a trained network by AutoAttack, image by image.

    What is done is kept in RUN/autoattack; interrupted and started again, it goes on from there.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of `rctaf train`, or one below members/ of a sweep."""
    attack: Annotated[AttackConfig, Flat] = AttackConfig()
    output: Path | None = None
    """Folder for the results; RUN/autoattack when left out."""

    def run(self, console: Console, command: str) -> None:
        """Attack, print a table."""
        folder = self.output or self.folder / "autoattack"
        say(console, f"Attacking {self.folder} on {describe_devices()}. Results go to {folder}.")
        result = attack_run(self.folder, self.attack, folder, command, console)
        console.print(attack_table(result))
        say(console, f"Results: {folder / 'autoattack.json'}")


@dataclasses.dataclass(frozen=True)
class Hessian:
    """Find a trained network's Hessian diagonal and its norm (8), exactly or with an interval.

    What is done is kept; interrupted, or given a larger --num-probes, it goes on from there.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of `rctaf train`, or one below members/ of a sweep."""
    hessian: Annotated[DiagonalConfig, Flat] = DiagonalConfig()
    output: Path | None = None
    """Folder for the results; RUN/hessian/METHOD when left out."""

    def run(self, console: Console, command: str) -> None:
        """Estimate, print a table by layer."""
        say(
            console,
            f"Hessian diagonal of {self.folder}, method {self.hessian.method}, on "
            f"{describe_devices()}.",
        )
        result = hessian_run(self.folder, self.hessian, self.output, command, console)
        console.print(hessian_table(result))
        say(console, f"Results: hessian.json, hessian.png and others in {result['folder']}")


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the report of a sweep or a reproduction again, finished or not."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Of `rctaf sweep` or `rctaf reproduce`."""

    def run(self, console: Console, command: str) -> None:
        """Read, draw, write."""
        if is_reproduction(self.folder):
            say(console, f"Report: {write_page(self.folder).path}")
        else:
            show_report(self.folder, console)


@dataclasses.dataclass(frozen=True)
class Data:
    """Load a dataset, preparing it if need be, and say what is in it."""

    name: Annotated[str, tyro.conf.Positional]
    """digits, cifar10, cifar100, a .npz file, or a folder that TFDS prepared."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""

    def run(self, console: Console, command: str) -> None:
        """Load, print."""
        say(console, f"Loading {self.name}.")
        console.print(dataset_table(load(self.name, self.data_dir)))


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """The value a flag has in the words of a command, None if it is not there."""
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            rest = words[position + 1 : position + 2]
            return value if equals else (rest[0] if rest else None)
    return None


def for_method(config: SweepConfig, method: str | None) -> SweepConfig:
    """A preset for another method than its own: the inner maximisation is that method's."""
    if method in (None, config.train.method):
        return config
    train = dataclasses.replace(config.train, attack_steps=None, step_size=None)
    return dataclasses.replace(config, train=train)


def commands(words: Sequence[str]) -> Any:
    """The union of the subcommands, with the defaults that `words` ask for.

    Raises:
      InputError: for an unknown preset.
    """
    config = PRESETS[preset_for(value_of("--preset", words), value_of("--data", words))]
    config = for_method(config, value_of("--method", words))
    sweep, train = Sweep(config), Train(config.data, config.train, config.evaluation)
    return (
        Annotated[Sweep, tyro.conf.subcommand("sweep", default=sweep)]
        | Annotated[Train, tyro.conf.subcommand("train", default=train)]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Attack, tyro.conf.subcommand("attack")]
        | Annotated[Hessian, tyro.conf.subcommand("hessian")]
        | Annotated[ValidateAppendix, tyro.conf.subcommand("validate-appendix")]
        | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
        | Annotated[Claims, tyro.conf.subcommand("claims")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Activations, tyro.conf.subcommand("activations")]
        | Annotated[Data, tyro.conf.subcommand("data")]
    )
