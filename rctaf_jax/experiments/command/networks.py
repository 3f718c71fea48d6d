"""The subcommands about one network: train, evaluate, attack, hessian."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from rctaf_jax.config import (
    AttackConfig,
    ClusterConfig,
    DataConfig,
    DiagonalConfig,
    EngineConfig,
    EvaluationConfig,
    NetworkConfig,
    RunConfig,
    TrainConfig,
    ValidationConfig,
)
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.show.terminal import say
from rctaf_jax.extras import INSTALL_REPORT, missing
from rctaf_jax.values import check_positive, short_name

from .schema import ConfigFile, MeasuredConfig

if TYPE_CHECKING:
    from rctaf_jax.experiments.run.folder import Run
    from rctaf_jax.experiments.run.subject import Subject

Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK")]


@dataclasses.dataclass(frozen=True)
class TrainCommand:
    """Train one network, its batches shared by all devices, and evaluate it.

    Checkpoints are written as it goes; the same command goes on from the newest.
    """

    data: DataConfig
    train: TrainConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    validation: ValidationConfig = ValidationConfig()
    activation: str = "rct-af:beta=1,curvature=7"
    """rct-af:beta=B,curvature=C or rct-af:beta=B,alpha=A, or a baseline such as relu or gelu."""
    seed: int = 0
    """Of the weights, the order of the data and the attack's starts."""
    preset: str | None = None
    """Where the other flags' defaults come from: digits, mnist-5k, cifar10-small or recipe."""
    defaults: ConfigFile = None
    """A config.json of a run or a sweep, or its folder, in place of a preset; flags win over it."""
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
        run = self.train_here(console, command)
        from rctaf_jax.experiments.run.subject import radius, subject_of

        subject = subject_of(run)
        threat = radius(subject, None, None)
        evaluate(subject, self.evaluation, threat, None, console, command)

    def train_here(self, console: Console, command: str) -> "Run":
        """Train, on all devices of all processes; the trained run."""
        from rctaf_jax import processes
        from rctaf_jax.experiments.run.environment import describe_devices
        from rctaf_jax.experiments.run.folder import resolve_run
        from rctaf_jax.experiments.run.train import train_run

        resolved = resolve_run(
            RunConfig(self.data, self.train, self.activation, self.seed, self.validation)
        )
        text = resolved.config.activation
        named = (self.data.name, self.train.model, self.train.method)
        name = text.replace(":", "-").replace(",", "-")
        folder = self.output or Path("runs") / (
            f"train-{'-'.join(map(short_name, named))}-{name}-seed{self.seed}"
        )
        say(
            console,
            f"{self.train.model} with {text} on {resolved.dataset.name}, {self.train.method}, "
            f"{resolved.training.num_steps} steps on {describe_devices()}.\n"
            f"Data: {resolved.dataset.source}\nResults go to {folder}.",
        )
        if resolved.validation is not None:
            say(console, f"{len(resolved.validation.labels):,} training images are held out.")
        with processes.alone(folder):
            return train_run(resolved, folder, command, console)


@dataclasses.dataclass(frozen=True)
class EvaluateCommand:
    """Measure clean and robust accuracy of a trained network, image by image."""

    source: Source
    """Folder of `rctaf train`, or one below members/ of a sweep; a .safetensors, .npz, .pt, .pth or
    .jax file; or package.module:function."""
    network: NetworkConfig = NetworkConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    norm: Literal["Linf", "L2"] | None = None
    """Norm of the threat model; the one it was trained for when left out."""
    epsilon: float | None = None
    """Radius of the threat model; the one it was trained for when left out."""
    defaults: MeasuredConfig = None
    output: Path | None = None
    """Folder for the results; evaluations/ATTACK in the run, or in runs/NETWORK, when left out."""

    def run(self, console: Console, command: str) -> None:
        """Evaluate, print a table."""
        from rctaf_jax.experiments.run.measure import check_evaluation
        from rctaf_jax.experiments.run.subject import open_subject, radius

        check_evaluation(self.evaluation)
        check_positive(epsilon=self.epsilon)
        subject = open_subject(self.source, self.network)
        threat = radius(subject, self.norm, self.epsilon)
        evaluate(subject, self.evaluation, threat, self.output, console, command)


def evaluate(
    subject: "Subject",
    config: EvaluationConfig,
    threat: tuple[str, float],
    output: Path | None,
    console: Console,
    command: str,
) -> None:
    """Measure a network, and show what came out."""
    from rctaf_jax.experiments.run.environment import describe_devices
    from rctaf_jax.experiments.run.evaluate import evaluate_network
    from rctaf_jax.experiments.run.tables import evaluation_table

    say(console, f"Evaluating {subject.name} on {describe_devices()}.")
    result, path = evaluate_network(subject, config, threat, output, command)
    console.print(evaluation_table(result))
    say(console, f"Results: {path}")


@dataclasses.dataclass(frozen=True)
class AttackCommand:
    """Measure robust accuracy of a trained network by AutoAttack, image by image.

    What is done is kept; interrupted and started again, it goes on from there. With --engine ray
    the images are shared out over the nodes of a Ray cluster.
    """

    source: Source
    """Folder of `rctaf train`, or one below members/ of a sweep; a .safetensors, .npz, .pt, .pth or
    .jax file; or package.module:function."""
    network: NetworkConfig = NetworkConfig()
    attack: AttackConfig = AttackConfig()
    defaults: MeasuredConfig = None
    output: Path | None = None
    """Folder for the results; autoattack in the run, or in runs/NETWORK, when left out."""
    engine: EngineConfig = EngineConfig()

    def run(self, console: Console, command: str) -> None:
        """Attack, print a table."""
        from rctaf_jax.eval.autoattack.ensemble import run_all
        from rctaf_jax.experiments.cluster.attack_engine import attack_with_ray
        from rctaf_jax.experiments.cluster.ray_cluster import is_wanted
        from rctaf_jax.experiments.run.attack import attack_network, check_attack, radii_of
        from rctaf_jax.experiments.run.environment import describe_devices
        from rctaf_jax.experiments.run.subject import open_subject
        from rctaf_jax.experiments.run.tables import attack_table, curve_table

        check_attack(self.attack)
        is_on_ray = is_wanted(self.engine)
        subject = open_subject(self.source, self.network)
        _, radii = radii_of(subject, self.attack)
        folder = self.output or subject.folder / "autoattack"
        where = "a Ray cluster" if is_on_ray else describe_devices()
        say(console, f"Attacking {self.source} on {where}. Results go to {folder}.")
        engine = (
            attack_with_ray(subject.network, self.engine.address, console) if is_on_ray else run_all
        )
        result = attack_network(subject, self.attack, folder, command, console, engine)
        is_curve = len(radii) > 1
        console.print(curve_table(result) if is_curve else attack_table(result))
        say(console, f"Results: {folder / ('curve.json' if is_curve else 'autoattack.json')}")


@dataclasses.dataclass(frozen=True)
class HessianCommand:
    """Find a trained network's Hessian diagonal and its norm (8), exactly or with an interval.

    What is done is kept; interrupted, or given a larger --num-probes, it goes on from there.
    """

    source: Source
    """Folder of `rctaf train`, or one below members/ of a sweep; a .safetensors, .npz, .pt, .pth or
    .jax file; or package.module:function."""
    network: NetworkConfig = NetworkConfig()
    hessian: DiagonalConfig = DiagonalConfig()
    defaults: MeasuredConfig = None
    output: Path | None = None
    """Folder for the results; hessian/METHOD in the run, or in runs/NETWORK, when left out."""

    def run(self, console: Console, command: str) -> None:
        """Estimate, print a table by layer."""
        from rctaf_jax.experiments.run.environment import describe_devices
        from rctaf_jax.experiments.run.hessian import check_diagonal, hessian_of
        from rctaf_jax.experiments.run.subject import open_subject
        from rctaf_jax.experiments.run.tables import hessian_table

        check_diagonal(self.hessian)
        subject = open_subject(self.source, self.network)
        say(
            console,
            f"Hessian diagonal of {self.source}, method {self.hessian.method}, on "
            f"{describe_devices()}.",
        )
        result = hessian_of(subject, self.hessian, self.output, command, console)
        console.print(hessian_table(result))
        if missing(["matplotlib"]):
            say(console, f"No picture, which needs matplotlib: {INSTALL_REPORT}.")
            say(console, f"Results: hessian.json and others in {result['folder']}")
        else:
            say(console, f"Results: hessian.json, hessian.png and others in {result['folder']}")


@dataclasses.dataclass(frozen=True)
class ExportCommand:
    """Write a network to a file: weights, for PyTorch and this command, or a program for any JAX.

    A program (.jax) takes any number of images and has derivatives; attacks and Hessians run on it
    where nothing else of the network is installed.
    """

    source: Source
    """As for the other commands; package.module:function for a program alone."""
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """To write: ends in .safetensors, .npz, .pt or .pth, or in .jax for a program."""
    layout: Literal["trades"] | None = None
    """trades: with the block that TRADES' Wide ResNet has and never calls."""
    network: NetworkConfig = NetworkConfig()
    defaults: MeasuredConfig = None

    def run(self, console: Console, command: str) -> None:
        """Load, write, say what it is."""
        from rctaf_jax.experiments.run.network import image_shape_of, load_network
        from rctaf_jax.models import save_program, save_weights
        from rctaf_jax.models.program import SUFFIX

        given, is_program = self.network, self.file.suffix.lower() == SUFFIX
        of_network = {**given.network, "checkpoint": given.checkpoint}
        is_told = self.defaults is None and given != NetworkConfig(**of_network)
        if not is_program and is_told:
            raise InputError("weights need no images: leave out --data and what belongs to it.")
        if is_program and self.layout is not None:
            raise InputError("a program has no names of weights: leave out --layout.")
        network = load_network(self.source, **of_network)
        if is_program:
            shape = image_shape_of(self.source, given.images)
            path = save_program(self.file, network, image_shape=shape)
        else:
            path = save_weights(self.file, network, layout=self.layout)
        activation = (
            "an unknown activation" if network.activation is None else network.activation.text
        )
        say(
            console,
            f"{network.model or self.source} with {activation} and {network.num_classes} classes "
            f"written to {path}.",
        )
