"""The subcommands about one network: train, evaluate, attack, hessian."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from rctaf_jax.config import (
    AttackConfig,
    ClusterConfig,
    DataConfig,
    DiagonalConfig,
    EvaluationConfig,
    RunConfig,
    TrainConfig,
)
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.show.terminal import say

if TYPE_CHECKING:
    from rctaf_jax.experiments.run.folder import Run

RunFolder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """Train one network, its batches shared by all devices, and evaluate it.

    Checkpoints are written as it goes; the same command goes on from the newest.
    """

    data: DataConfig
    train: TrainConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    activation: str = "rct-af:beta=1,curvature=7"
    """rct-af:beta=B,curvature=C or rct-af:beta=B,alpha=A, or a baseline such as relu or gelu."""
    seed: int = 0
    """Of the weights, the order of the data and the attack's starts."""
    preset: str | None = None
    """Where the other flags' defaults come from: digits, cifar10-small or recipe."""
    cluster: ClusterConfig = ClusterConfig()
    output: Path | None = None
    """Run folder; runs/train-DATA-MODEL-METHOD-ACTIVATION-SEED when left out."""

    def run(self, console: Console, command: str) -> None:
        """Train, evaluate; several processes only train."""
        from rctaf_jax import processes
        from rctaf_jax.experiments.run.measure import check_evaluation

        check_evaluation(self.evaluation)
        cluster = self.cluster
        if cluster.distributed:
            with processes.joined(
                cluster.coordinator, cluster.num_processes, cluster.process_index
            ):
                is_first = processes.is_first()
                run = self.train_here(console if is_first else Console(quiet=True), command)
                if is_first:
                    say(console, f"Trained. To measure it: rctaf evaluate {run.folder}")
            return
        if cluster != ClusterConfig():
            raise InputError(
                "coordinator, num-processes and process-index are for several processes: "
                "give --distributed too."
            )
        evaluate(self.train_here(console, command), self.evaluation, console, command)

    def train_here(self, console: Console, command: str) -> "Run":
        """Train, on all devices of all processes; the trained run."""
        from rctaf_jax import processes
        from rctaf_jax.experiments.run.environment import describe_devices
        from rctaf_jax.experiments.run.folder import resolve_run
        from rctaf_jax.experiments.run.train import train_run

        resolved = resolve_run(RunConfig(self.data, self.train, self.activation, self.seed))
        text = resolved.config.activation
        name = text.replace(":", "-").replace(",", "-")
        folder = self.output or Path("runs") / (
            f"train-{Path(self.data.name).stem}-{self.train.model}-{self.train.method}-{name}"
            f"-seed{self.seed}"
        )
        say(
            console,
            f"{self.train.model} with {text} on {resolved.dataset.name}, {self.train.method}, "
            f"{resolved.training.num_steps} steps on {describe_devices()}.\n"
            f"Data: {resolved.dataset.source}\nResults go to {folder}.",
        )
        with processes.alone(folder):
            return train_run(resolved, folder, command, console)


@dataclasses.dataclass(frozen=True)
class EvaluateCommand:
    """Measure clean and robust accuracy of a trained network, image by image."""

    folder: RunFolder
    """Folder of `rctaf train`, or one below members/ of a sweep."""
    evaluation: EvaluationConfig = EvaluationConfig()

    def run(self, console: Console, command: str) -> None:
        """Evaluate, print a table."""
        from rctaf_jax.experiments.run.folder import open_run
        from rctaf_jax.experiments.run.measure import check_evaluation

        check_evaluation(self.evaluation)
        evaluate(open_run(self.folder), self.evaluation, console, command)


def evaluate(run: "Run", config: EvaluationConfig, console: Console, command: str) -> None:
    """Measure a run, and show what came out."""
    from rctaf_jax.experiments.run.environment import describe_devices
    from rctaf_jax.experiments.run.evaluate import evaluate_run
    from rctaf_jax.experiments.run.tables import evaluation_table

    say(console, f"Evaluating {run.folder} on {describe_devices()}.")
    result, path = evaluate_run(run, config, command)
    console.print(evaluation_table(result))
    say(console, f"Results: {path}")


@dataclasses.dataclass(frozen=True)
class AttackCommand:
    """Measure robust accuracy of a trained network by AutoAttack, image by image.

    What is done is kept in RUN/autoattack; interrupted and started again, it goes on from there.
    """

    folder: RunFolder
    """Folder of `rctaf train`, or one below members/ of a sweep."""
    attack: AttackConfig = AttackConfig()
    output: Path | None = None
    """Folder for the results; RUN/autoattack when left out."""

    def run(self, console: Console, command: str) -> None:
        """Attack, print a table."""
        from rctaf_jax.experiments.run.attack import attack_run
        from rctaf_jax.experiments.run.environment import describe_devices
        from rctaf_jax.experiments.run.tables import attack_table

        folder = self.output or self.folder / "autoattack"
        say(console, f"Attacking {self.folder} on {describe_devices()}. Results go to {folder}.")
        result = attack_run(self.folder, self.attack, folder, command, console)
        console.print(attack_table(result))
        say(console, f"Results: {folder / 'autoattack.json'}")


@dataclasses.dataclass(frozen=True)
class HessianCommand:
    """Find a trained network's Hessian diagonal and its norm (8), exactly or with an interval.

    What is done is kept; interrupted, or given a larger --num-probes, it goes on from there.
    """

    folder: RunFolder
    """Folder of `rctaf train`, or one below members/ of a sweep."""
    hessian: DiagonalConfig = DiagonalConfig()
    output: Path | None = None
    """Folder for the results; RUN/hessian/METHOD when left out."""

    def run(self, console: Console, command: str) -> None:
        """Estimate, print a table by layer."""
        from rctaf_jax.experiments.run.environment import describe_devices
        from rctaf_jax.experiments.run.hessian import hessian_run
        from rctaf_jax.experiments.run.tables import hessian_table

        say(
            console,
            f"Hessian diagonal of {self.folder}, method {self.hessian.method}, on "
            f"{describe_devices()}.",
        )
        result = hessian_run(self.folder, self.hessian, self.output, command, console)
        console.print(hessian_table(result))
        say(console, f"Results: hessian.json, hessian.png and others in {result['folder']}")
