"""AutoAugment's policy over a batch of images, in both forms, beside a random crop and flip.

    python benchmarks/autoaugment.py
    python benchmarks/autoaugment.py --batch 512 --side 64

`autoaugment` maps over a batch in one of two forms, by backend: a CPU takes the images one after
another and only the operations that an image drew; an accelerator takes them side by side, through
every operation, and keeps one result. Both are compiled here on the backend at hand and must agree
on every pixel before anything is timed.

Then whole DAJAT steps, at five attack steps a view, take turns with the policy over their two
augmented views: its share of a step, under 5% on an accelerator.

Takes 2 minutes on two CPU cores. Expect there 2 to 3 ms for 128 images of 32x32 pixels one after
another, ten times as much CPU time or more side by side, and a share far below 1%.
"""

import dataclasses
import unittest.mock
from collections.abc import Callable
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array
from rich.console import Console
from rich.table import Table

from rctaf_jax.activations import parse_activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.data.dataset import Dataset, Split
from rctaf_jax.training.augmentation import Augmentation, crop_flip
from rctaf_jax.training.augmentation.autoaugment import autoaugment
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.trainer import device_data, make_trainer

FORMS = {"one after another": "cpu", "side by side": "gpu"}
"""What `autoaugment` does on which backend."""
REFERENCE = "crop-flip"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Time of AutoAugment's policy over a batch."""

    batch: int = 128
    """Images."""
    side: int = 32
    """Pixels; there are three channels."""
    rounds: int = 20
    """Rounds of timing."""
    model: str = "resnet18"
    """Of the DAJAT step."""
    width: float = 0.25
    """Of that model."""
    step_rounds: int = 3
    """Rounds of timing steps."""


def main(benchmark: Benchmark) -> None:
    console = Console()
    result = harness.start(**dataclasses.asdict(benchmark))
    keys = jax.random.split(jax.random.key(0), benchmark.batch)
    shape = (benchmark.batch, benchmark.side, benchmark.side, 3)
    images = jax.device_put(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    contenders = {REFERENCE: compiled(crop_flip, keys, images)}
    for form, backend in FORMS.items():
        with unittest.mock.patch.object(jax, "default_backend", return_value=backend):
            contenders[form] = compiled(autoaugment, keys, images)
    first, second = (np.asarray(contenders[form]()) for form in FORMS)
    if not np.array_equal(first, second):
        raise SystemExit(f"the two forms differ in {(first != second).mean():.2%} of the levels.")
    contenders[REFERENCE]()
    times = harness.interleaved(contenders, benchmark.rounds)
    result["contenders"] = describe(times)
    result["dajat_step"] = measure_step(benchmark, keys, images)
    show(benchmark, result, console)
    harness.save("autoaugment", result, console)


def compiled(augment: Augmentation, keys: Array, images: Array) -> Callable[[], Array]:
    """The augmentation of this batch as one program."""
    program = jax.jit(jax.vmap(augment)).lower(keys, images).compile()
    return lambda: jax.block_until_ready(program(keys, images))


def measure_step(benchmark: Benchmark, keys: Array, images: Array) -> dict[str, Any]:
    """A DAJAT step in the last quarter of its budget, and the policy over its augmented views."""
    host, labels = np.asarray(images), np.arange(benchmark.batch, dtype=np.int32) % 10
    split = Split(host, labels)
    dataset = Dataset("noise", split, split, tuple("0123456789"), "random pixels")
    stated = TrainConfig(
        model=benchmark.model,
        width=benchmark.width,
        method="dajat",
        epochs=1000,
        batch_size=benchmark.batch,
        augmentation="crop-flip",
    )
    activation = parse_activation("rct-af:beta=1,curvature=7")
    trainer = make_trainer(resolve(stated, dataset), activation, dataset)
    advance = jax.jit(trainer.advance)
    state = trainer.initial(0, activation.alpha)._replace(step=jnp.int32(900))
    data, policy = device_data(dataset), compiled(autoaugment, keys, images)

    def step() -> None:
        jax.block_until_ready(advance(state, data, trainer.settings, 1))

    def two_views() -> None:
        policy()
        policy()

    step()
    times = harness.interleaved({"step": step, "policy": two_views}, benchmark.step_rounds)
    return {
        "seconds": harness.quartiles(times["step"].wall)._asdict(),
        "share": harness.ratio(times["policy"].wall, times["step"].wall)._asdict(),
        "cpu_share": harness.ratio(times["policy"].cpu, times["step"].cpu)._asdict(),
        "all": {name: own._asdict() for name, own in times.items()},
    }


def describe(times: dict[str, harness.Times]) -> dict[str, Any]:
    """Seconds of a batch, on the clock and of the process."""
    return {
        name: {
            "seconds": harness.quartiles(own.wall)._asdict(),
            "cpu_seconds": harness.quartiles(own.cpu)._asdict(),
            "ratio": harness.ratio(own.wall, times[REFERENCE].wall)._asdict(),
            "all": own._asdict(),
        }
        for name, own in times.items()
    }


def show(benchmark: Benchmark, result: dict[str, Any], console: Console) -> None:
    size = f"{benchmark.side}x{benchmark.side}"
    table = Table(title=f"Augmenting {benchmark.batch} images of {size} pixels")
    table.add_column("", no_wrap=True)
    for column in ("ms", "quartiles", "CPU ms", f"over {REFERENCE}"):
        table.add_column(column, justify="right")
    for name, row in result["contenders"].items():
        seconds = row["seconds"]
        table.add_row(
            name,
            f"{1e3 * seconds['median']:.2f}",
            f"{1e3 * seconds['low']:.2f}-{1e3 * seconds['high']:.2f}",
            f"{1e3 * row['cpu_seconds']['median']:.2f}",
            f"{row['ratio']['median']:.1f}",
        )
    console.print(table)
    step, share = result["dajat_step"]["seconds"], result["dajat_step"]["share"]
    console.print(
        f"A DAJAT step of {benchmark.model}, width {benchmark.width:g}, takes "
        f"{step['median']:.2f} s; the policy over its two augmented views is "
        f"{share['median']:.3%} of that "
        f"({share['low']:.3%} to {share['high']:.3%})."
    )


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
