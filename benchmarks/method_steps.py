"""A training step of each method over a standard one: time and memory, against counted passes.

    python benchmarks/method_steps.py

What a step must do is counted from its method: for each view the attack's steps and the passes of
the loss, the reference prediction of attacks on a divergence, and the passes of the base view for
adversarial weights. A forward and a backward pass count 1, a forward pass alone 1/3. Growing
budgets are taken in their last quarter (5 steps), with adversarial weights and averaging as in the
recipe, so a step here is the dearest of its run. Target: time at most 1.25 times the count.

ResNet-18 at a quarter of its width, float32. Memory is the compiler's peak of intermediates.

Takes 8 minutes on two CPU cores, most of them compiling. Expect less than the count: an attack's
backward pass has no weight gradients.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from rctaf_jax.activations import parse_activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.data.dataset import Dataset, Split
from rctaf_jax.training import METHODS
from rctaf_jax.training.methods.perturbations import perturb_by_divergence
from rctaf_jax.training.recipe import ResolvedTraining, resolve
from rctaf_jax.training.trainer import device_data, make_plan, make_trainer

EPOCHS, LATE_EPOCH = 100, 90
"""An epoch is one step; the late one has the last quarter's budget, and adversarial weights."""
REFERENCE, MOST = "standard", 1.25
FORWARD = 1 / 3


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A step of each method."""

    model: str = "resnet18"
    """Of the step."""
    width: float = 0.25
    """Of the model."""
    batch: int = 32
    """Images."""
    activation: str = "rct-af:beta=1,curvature=7"
    """Of the model."""
    rounds: int = 5
    """Rounds of timing."""


def main(benchmark: Benchmark) -> None:
    console = Console()
    result = harness.start(**dataclasses.asdict(benchmark))
    steps, facts = {}, {}
    for method in METHODS:
        console.print(f"compiling {method}", highlight=False)
        steps[method], facts[method] = make_step(benchmark, method)
        steps[method]()
    times = harness.interleaved(steps, benchmark.rounds)
    result["methods"] = describe(times, facts)
    show(benchmark, result["methods"], console)
    harness.save("method_steps", result, console)


def make_step(benchmark: Benchmark, method: str) -> tuple[Callable[[], None], dict[str, Any]]:
    """A compiled late step, and its passes and memory."""
    dataset = noise(benchmark.batch)
    stated = TrainConfig(
        model=benchmark.model,
        width=benchmark.width,
        method=method,
        epochs=EPOCHS,
        batch_size=benchmark.batch,
        augmentation="crop-flip",
    )
    training, activation = resolve(stated, dataset), parse_activation(benchmark.activation)
    trainer = make_trainer(training, activation, dataset)
    state = trainer.initial(0, activation.alpha)._replace(step=jnp.int32(LATE_EPOCH))
    arguments = (state, device_data(dataset), trainer.settings, jnp.int32(1))
    program = jax.jit(trainer.advance).lower(*arguments).compile()

    def step() -> None:
        jax.block_until_ready(program(*arguments))

    memory: Any = program.memory_analysis()
    facts = {
        "passes": count_passes(training, trainer),
        "megabytes": memory.temp_size_in_bytes / 1e6,
    }
    return step, facts


def noise(batch: int) -> Dataset:
    """One batch of random pixels, the whole dataset."""
    images = np.random.default_rng(0).integers(0, 256, (batch, 32, 32, 3), np.uint8)
    split = Split(images, np.arange(batch, dtype=np.int32) % 10)
    return Dataset("noise", split, split, tuple("0123456789"), "random pixels")


def count_passes(training: ResolvedTraining, trainer: Any) -> float:
    """Forward-and-backward passes of a late step for each image, a forward pass alone 1/3."""
    plan = make_plan(training, trainer.model, None)
    method, settings = plan.method, trainer.settings
    budget = plan.budget(jnp.int32(LATE_EPOCH), settings.epsilon, settings.step_size)
    attack = float(budget.num_steps)
    if method.perturb is perturb_by_divergence:
        attack += FORWARD
    of_view = attack + len(method.passes)
    of_weights = len(method.passes) if plan.awp_epoch is not None else 0
    return len(method.views) * of_view + of_weights


def describe(
    times: dict[str, harness.Times], facts: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Time and memory over a standard step's, and time over the count of passes."""
    found = {}
    for method, own in times.items():
        ratio = harness.ratio(own.cpu, times[REFERENCE].cpu)
        passes = facts[method]["passes"] / facts[REFERENCE]["passes"]
        found[method] = {
            **facts[method],
            "memory": facts[method]["megabytes"] / facts[REFERENCE]["megabytes"],
            "seconds": harness.quartiles(own.wall)._asdict(),
            "ratio": harness.ratio(own.wall, times[REFERENCE].wall)._asdict(),
            "cpu_ratio": ratio._asdict(),
            "cpu_ratio_over_passes": ratio.median / passes,
            "met": ratio.median <= MOST * passes,
            "all": own._asdict(),
        }
    return found


def show(benchmark: Benchmark, methods: dict[str, dict[str, Any]], console: Console) -> None:
    table = Table(
        title=f"A step of {benchmark.model}, width {benchmark.width:g}, batch {benchmark.batch}, "
        "over a standard one"
    )
    columns = ("method", "passes", "CPU time", "quartiles", "over passes", "met", "memory", "s")
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, row in methods.items():
        time = row["cpu_ratio"]
        table.add_row(
            method,
            f"{row['passes']:.1f}",
            f"{time['median']:.2f}",
            f"{time['low']:.2f}-{time['high']:.2f}",
            f"{row['cpu_ratio_over_passes']:.2f}",
            "yes" if row["met"] else "no",
            f"{row['memory']:.2f}",
            f"{row['seconds']['median']:.2f}",
        )
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
