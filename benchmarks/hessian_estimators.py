"""Three ways to a network's Hessian norm that share no noise, and what a product costs each.

    python benchmarks/hessian_estimators.py

resnet-mini on digits after a few epochs of standard training, the mean cross-entropy over some
training images. Hutchinson's probes, XDiag's blocks and exact entries of a random sample of
parameters take the same number of Hessian-vector products, from keys of their own: q = (1/p) sum_k
H_kk^2 with its 95% interval, over all parameters and array by array, and whether two of the three
differ by more than their errors allow. Then they take turns for the seconds per product.

Takes 3 minutes on two CPU cores. Expect that they agree, that XDiag's interval is the narrowest,
and that a product costs all three alike.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import harness
import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table
from scipy.special import ndtr

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset, load
from rctaf_jax.experiments.run.measure import describe_hessian, hessian_split, make_logits
from rctaf_jax.hessian import (
    HessianEstimate,
    MeanSquare,
    coordinates,
    estimate,
    init,
    make_dataset_product,
    relative_error,
    run,
    xdiag,
)
from rctaf_jax.hessian.products import Params, Product
from rctaf_jax.losses import cross_entropy
from rctaf_jax.training.recipe import ResolvedTraining, resolve
from rctaf_jax.training.trainer import device_data, make_trainer

Method = Callable[[int], HessianEstimate]
"""Number of products to what they say."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Three estimates of one Hessian norm."""

    activation: str = "rct-af:beta=1,curvature=7"
    """Of the network."""
    epochs: int = 5
    """Of standard training."""
    examples: int = 200
    """Training images in the loss."""
    products: int = 256
    """Hessian-vector products of each estimator."""
    block_size: int = 16
    """Probes of a block of XDiag, which takes twice as many products."""
    rounds: int = 5
    """Rounds of timing."""


def main(benchmark: Benchmark) -> None:
    console = Console()
    if benchmark.products < 6 * benchmark.block_size:
        raise SystemExit(
            f"an interval takes 3 blocks, which are {6 * benchmark.block_size} products: "
            f"got {benchmark.products}."
        )
    result = harness.start(**dataclasses.asdict(benchmark))
    dataset = load("digits")
    activation = parse_activation(benchmark.activation)
    training = resolve(
        TrainConfig(method="standard", epochs=benchmark.epochs, schedule="cosine"), dataset
    )
    variables = train(training, activation, dataset)
    product = make_product(benchmark, training.config, activation, dataset, variables)
    methods = make_methods(benchmark, variables["params"], product)
    estimates = {name: method(benchmark.products) for name, method in methods.items()}
    result["train"] = dataclasses.asdict(training.config)
    result["estimates"] = {
        name: {
            **describe_hessian(each, benchmark.examples),
            "num_products": each.num_products,
            "relative_error": relative_error(each.mean_square),
        }
        for name, each in estimates.items()
    }
    result["differences"] = differences(estimates)
    harness.save("hessian_estimators", result, console)
    result["time"] = measure_time(benchmark, methods)
    show(result, console)
    harness.save("hessian_estimators", result, console)


def train(training: ResolvedTraining, activation: Activation, dataset: Dataset) -> dict[str, Any]:
    """A network's variables after training."""
    trainer = make_trainer(training, activation, dataset)
    advance = jax.jit(trainer.advance, donate_argnums=0)
    state = trainer.initial(0, activation.alpha)
    state, _ = advance(state, device_data(dataset), trainer.settings, jnp.int32(trainer.num_steps))
    return jax.device_get(state.variables)


def make_product(
    benchmark: Benchmark,
    config: TrainConfig,
    activation: Activation,
    dataset: Dataset,
    variables: Mapping[str, Any],
) -> Product:
    """Hessian-vector products of the mean cross-entropy over training images."""
    logits = make_logits(config, activation, dataset.num_classes)

    def losses(params: Params, rest: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
        return cross_entropy(logits({**rest, "params": params}, images), labels)

    split = hessian_split(benchmark.examples, dataset)
    rest = {name: value for name, value in variables.items() if name != "params"}
    bind = make_dataset_product(losses, batch_size=benchmark.examples)
    return bind(variables["params"], rest, split.images, split.labels)


def make_methods(benchmark: Benchmark, params: Params, product: Product) -> dict[str, Method]:
    """The three estimators, each with a key of its own."""
    keys = jax.random.split(jax.random.key(0), 3)

    def hutchinson(num_products: int) -> HessianEstimate:
        return estimate(run(init(params), product, range(num_products), keys[0]))

    def blocks(num_products: int) -> HessianEstimate:
        size = benchmark.block_size
        numbers = range(num_products // (2 * size))
        return estimate(xdiag.run(init(params), product, numbers, keys[1], block_size=size))

    def entries(num_products: int) -> HessianEstimate:
        start, numbers = coordinates.init(params), range(num_products)
        state = coordinates.run(start, product, params, numbers, keys[2])
        return coordinates.estimate(state, params)

    return {"hutchinson": hutchinson, "xdiag": blocks, "coordinates": entries}


def differences(estimates: Mapping[str, HessianEstimate]) -> dict[str, Any]:
    """For each two estimators: their difference in standard errors, and the layers apart.

    A layer counts as apart beyond the normal quantile of 5% over the number of layers (Bonferroni),
    so that agreeing estimators come out without any in 95% of all runs, as far as their errors are
    normal.
    """
    rows = {}
    for one, other in itertools.combinations(estimates, 2):
        a, b = estimates[one], estimates[other]
        layers = {
            name: distance(x, y) for (name, x), (_, y) in zip(a.layers, b.layers, strict=True)
        }
        level = 0.05 / len(layers)
        rows[f"{one} - {other}"] = {
            "in_standard_errors": distance(a.mean_square, b.mean_square),
            "intervals_overlap": overlap(a.mean_square, b.mean_square),
            "layers_in_standard_errors": layers,
            "layers_apart": [n for n, z in layers.items() if 2 * ndtr(-abs(z)) < level],
        }
    return rows


def distance(one: MeanSquare, other: MeanSquare) -> float:
    """The difference of two independent estimates over its standard error; 0 for equal ones."""
    error = math.hypot(one.standard_error, other.standard_error)
    return (one.q - other.q) / error if one.q != other.q else 0.0


def overlap(one: MeanSquare, other: MeanSquare) -> bool:
    """Whether the 95% intervals have a point in common."""
    return one.interval[0] <= other.interval[1] and other.interval[0] <= one.interval[1]


def measure_time(benchmark: Benchmark, methods: Mapping[str, Method]) -> dict[str, Any]:
    """Seconds per product of each estimator, its sums and its estimate included."""
    count = 6 * benchmark.block_size
    contenders = {name: lambda method=method: method(count) for name, method in methods.items()}
    times = harness.interleaved(contenders, benchmark.rounds)
    reference = next(iter(times.values()))
    return {
        name: {
            "seconds_per_product": harness.quartiles([t / count for t in own.wall])._asdict(),
            "ratio": harness.ratio(own.wall, reference.wall)._asdict(),
            "cpu_ratio": harness.ratio(own.cpu, reference.cpu)._asdict(),
            "all": own._asdict(),
        }
        for name, own in times.items()
    }


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title="The Hessian norm (8), three ways")
    for column in ("estimator", "products", "rms", "95% of its square", "+-", "ms per product"):
        table.add_column(column, justify="left" if column == "estimator" else "right")
    for name, row in result["estimates"].items():
        low, high = row["mean_square_interval"]
        seconds = result["time"][name]["seconds_per_product"]["median"]
        table.add_row(
            name,
            str(row["num_products"]),
            f"{row['rms']:.4g}",
            f"{low:.4g} to {high:.4g}",
            f"{row['relative_error']:.1%}",
            f"{1e3 * seconds:.1f}",
        )
    console.print(table)
    table = Table(title="Differences")
    for column in ("between", "in standard errors", "intervals overlap", "layers apart"):
        table.add_column(column, justify="left" if column == "between" else "right")
    for name, row in result["differences"].items():
        apart = f"{len(row['layers_apart'])} of {len(row['layers_in_standard_errors'])}"
        table.add_row(
            name, f"{row['in_standard_errors']:.2f}", str(row["intervals_overlap"]), apart
        )
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
