"""The subcommands that show what the library knows: activations, datasets, the derivation."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from rctaf_jax.experiments.show.terminal import say
from rctaf_jax.extras import check_report

from .schema import MeasuredConfig

PAPER_ALPHAS = (1, 5, 10, 15, 20)
PAPER_FAMILY = tuple(f"rct-af:beta={b},alpha={a}" for b in (0, 1, 2) for a in PAPER_ALPHAS)
LISTED = (
    "relu",
    "leaky-relu",
    "elu",
    "selu",
    "gelu",
    "softplus",
    "swish",
    "mish",
    "sigmoid",
    "tanh",
)


@dataclasses.dataclass(frozen=True)
class ActivationsCommand:
    """Draw activations and their second derivatives, and print their curvatures.

    Without any name: Figures 1 and 2 of the paper, and Table 1's activations.
    """

    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Such as rct-af:beta=2,curvature=7 or gelu."""
    output: Path = Path("runs/activations")
    """Folder for the pictures."""

    def run(self, console: Console, command: str) -> None:
        """Draw, print."""
        check_report("activations", ["matplotlib"])
        from rctaf_jax.activations import parse_activation
        from rctaf_jax.experiments.show.activation_figure import activation_figure
        from rctaf_jax.experiments.show.plotting import save_figure
        from rctaf_jax.experiments.show.tables import curvature_table

        drawn = [parse_activation(name) for name in self.names or PAPER_FAMILY]
        listed = drawn if self.names else drawn + [parse_activation(name) for name in LISTED]
        self.output.mkdir(parents=True, exist_ok=True)
        console.print(curvature_table(listed))
        for order, name in ((0, "activations"), (2, "second-derivatives")):
            for path in save_figure(activation_figure(drawn, order), self.output / name):
                say(console, f"Figure: {path}")


@dataclasses.dataclass(frozen=True)
class DataCommand:
    """Load a dataset, preparing it if need be, and say what is in it."""

    name: Annotated[str, tyro.conf.Positional]
    """digits, digits-797, mnist-5k, cifar10, cifar100, a .npz file, a folder of pictures, one that
    TFDS prepared, or package.module:function."""
    data_dir: str | None = None
    """Where TFDS keeps its datasets."""
    image_size: int | None = None
    """Average images to so many pixels a side; resize a folder's pictures."""
    defaults: MeasuredConfig = None

    def run(self, console: Console, command: str) -> None:
        """Load, print."""
        from rctaf_jax.data import load
        from rctaf_jax.experiments.show.tables import dataset_table

        say(console, f"Loading {self.name}.")
        console.print(dataset_table(load(self.name, self.data_dir, self.image_size)))


@dataclasses.dataclass(frozen=True)
class ValidateAppendixCommand:
    """Put the paper's derivation of the Hessian diagonal to the test, on small exact networks.

    Perceptrons of one to six hidden layers in float64, before and after training: the diagonal by
    autodiff, by the paper's recursion and by the exact one. Under two minutes on two cores.
    """

    output: Path = Path("runs/validate-appendix")
    """Folder for the results."""

    def run(self, console: Console, command: str) -> None:
        """Measure, print tables, draw."""
        check_report("validate-appendix", ["matplotlib"])
        from rctaf_jax.experiments.appendix.validate import validate_appendix
        from rctaf_jax.experiments.run.environment import describe_devices

        say(console, f"Validating the appendix on {describe_devices()}.")
        validate_appendix(self.output, console, command)
