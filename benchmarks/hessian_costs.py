"""What exact Hessian diagonals cost, and one Hessian-vector product of a ResNet-18.

    python benchmarks/hessian_costs.py

1. Exact diagonals of two multilayer perceptrons with RCT-AF (8 inputs, 1 output, 32 examples, half
   the squared error, float64): by basis vectors, by neurons and by the appendix's full recursion,
   each over the time of one Hessian-vector product of the same round, all of them compiled. The
   three must agree to 1e-8 of the largest entry. The targets count products called one by one. Some
   of such a call is no arithmetic, so the same ratios over a product inside one compiled program,
   which takes them one after another, stand beside them: they are stricter.
2. ResNet-18 on one batch, float32, BatchNorm in inference mode: a product over a gradient, in time
   and in the compiler's peak of intermediates.
3. A tanh network's diagonal of the mean cross-entropy, same weights and data, float64: basis
   vectors against curvlinops' Hessian operator on basis vectors, and neurons against BackPACK's
   DiagHessian, which must agree as well. Left out without torch, curvlinops-for-pytorch and
   backpack-for-pytorch (the last two with `pip install --no-deps`, and einconv, einops,
   linear_operator, opt-einsum, tqdm and unfoldNd beside them).

PyTorch has one thread here, ours as many as it wants: on networks this small a second thread of
PyTorch made it slower by ten times and more on a shared machine. The CPU seconds of both are
recorded as well. curvlinops took about as long with 256 columns at a time as with all at once.

Takes 4 minutes on two CPU cores. Expect less than one product for each parameter by basis vectors,
for 20,000 parameters without much to spare, there 35 to 55 products by neurons and half as many by
the appendix, and a little more than twice a gradient's time and memory for a product of ResNet-18.
"""

import dataclasses
import importlib.metadata
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Two frameworks share the card: neither may take all of its memory beforehand.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import harness
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from hessian_libraries import OTHERS, backpack_diagonal, curvlinops_diagonal, import_others
from rich.console import Console
from rich.table import Table

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.hessian import (
    Layer,
    appendix_diagonal,
    exact_diagonal,
    forward,
    full_matrix_recursion,
    hessian_vector_product,
    make_dataset_gradient,
    make_dataset_product,
    neuron_diagonal,
    squared_error,
)
from rctaf_jax.hessian.dense import OutputLosses, Pointwise
from rctaf_jax.losses import cross_entropy
from rctaf_jax.models import create

NUM_EXAMPLES, NUM_INPUTS, NUM_CLASSES = 32, 8, 10
TOLERANCE = 1e-8
ONE, IN_LOOP = "product", "product in a loop"
PAIRS = {"curvlinops": "basis vectors", "BackPACK": "neurons"}
"""Theirs, and ours of the same kind."""

Layers = list[Layer]
Network = tuple[Layers, jax.Array, jax.Array]
"""A network, its inputs and its targets."""
Diagonal = Callable[[], Any]
"""Takes a diagonal, finished when it returns; leaves in the order of the parameters."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Costs of Hessian diagonals and products."""

    activation: str = "rct-af:beta=1,curvature=7"
    """Of the perceptrons and of the ResNet-18."""
    networks: tuple[str, ...] = ("8x16", "3x97")
    """Perceptrons, as hidden layers x neurons; 2,065 and 19,983 parameters."""
    compared: str = "8x16"
    """The tanh network of the comparison with other libraries, 10 outputs."""
    width: float = 0.5
    """Of the ResNet-18."""
    batch: int = 16
    """Images of 32 x 32 for the ResNet-18."""
    products: int = 1000
    """Hessian-vector products of a perceptron in one round."""
    torch_threads: int = 1
    """Of PyTorch, which on networks this small loses time with more."""
    columns: int = 256
    """Basis vectors that curvlinops takes at a time."""
    rounds: int = 5
    """Rounds of timing."""


def main(benchmark: Benchmark) -> None:
    console = Console()
    result = harness.start(**dataclasses.asdict(benchmark))
    with jax.enable_x64(True):
        result["diagonals"] = {
            name: measure_diagonals(benchmark, name) for name in benchmark.networks
        }
    result["resnet18"] = measure_resnet(benchmark)
    others = import_others(console)
    if others:
        result["environment"]["versions"] |= {n: importlib.metadata.version(n) for n in OTHERS}
        with jax.enable_x64(True):
            result["comparison"] = compare(benchmark, others)
    result["targets"] = check_targets(result)
    show(result, console)
    harness.save("hessian_costs", result, console)


def draw(text: str, num_outputs: int) -> Network:
    """A network such as 3x97 with targets of variance 1, as in the appendix's tests."""
    depth, neurons = map(int, text.split("x"))
    rng = np.random.default_rng(0)
    pairs = list(itertools.pairwise([NUM_INPUTS, *[neurons] * depth, num_outputs]))
    weights = [rng.normal(size=(above, below)) * (2 / below) ** 0.5 for below, above in pairs]
    biases = [rng.normal(size=above) / 2 for _, above in pairs]
    inputs = rng.normal(size=(NUM_EXAMPLES, NUM_INPUTS))
    targets = rng.normal(size=(NUM_EXAMPLES, num_outputs))
    layers = list(map(Layer, map(jnp.asarray, weights), map(jnp.asarray, biases)))
    return layers, jnp.asarray(inputs), jnp.asarray(targets)


def num_parameters(params: Any) -> int:
    """Entries of all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def flat(tree: Any) -> np.ndarray:
    """All leaves as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def error(tree: Any, reference: Any) -> float:
    """The largest difference over the largest entry; stops the benchmark if it is no rounding."""
    one, other = flat(tree), flat(reference)
    largest = float(np.max(np.abs(one - other)) / np.max(np.abs(other)))
    if not largest < TOLERANCE:
        raise SystemExit(f"two diagonals differ by {largest:.1e} of the largest entry.")
    return largest


def make_loss(
    losses: OutputLosses, activation: Pointwise, inputs: Any, targets: Any
) -> Callable[[Layers], jax.Array]:
    """The mean loss of a network."""

    def loss(layers: Layers) -> jax.Array:
        return losses(forward(layers, activation, inputs).pre_activations[-1], targets).mean()

    return loss


def compiled(function: Callable[..., Any], *arguments: Any) -> Diagonal:
    """The function at these arguments, compiled and called once."""
    program = jax.jit(function)

    def call() -> Any:
        return jax.block_until_ready(program(*arguments))

    call()
    return call


def our_diagonals(
    losses: OutputLosses, activation: Pointwise, network: Network
) -> dict[str, Diagonal]:
    """By basis vectors and by neurons."""
    layers, inputs, targets = network
    loss = make_loss(losses, activation, inputs, targets)
    return {
        "basis vectors": compiled(lambda layers: exact_diagonal(loss, layers), layers),
        "neurons": compiled(
            lambda layers: neuron_diagonal(losses, layers, activation, inputs, targets), layers
        ),
    }


def make_products(benchmark: Benchmark, network: Network) -> dict[str, Diagonal]:
    """Many products, one call each, and one after another inside one program."""
    layers, inputs, targets = network
    activation = parse_activation(benchmark.activation)
    loss = make_loss(squared_error, activation, inputs, targets)

    def product(layers: Layers, vector: Layers) -> Layers:
        return hessian_vector_product(loss, layers, vector)

    def all_in_one(layers: Layers, vector: Layers, shifts: jax.Array) -> Layers:
        def step(total: Layers, shift: jax.Array) -> tuple[Layers, None]:
            # Other inputs each time, or the compiler takes the forward pass out of the loop.
            loss = make_loss(squared_error, activation, inputs + shift, targets)
            after = hessian_vector_product(loss, layers, vector)
            return jax.tree.map(jnp.add, total, after), None

        return jax.lax.scan(step, jax.tree.map(jnp.zeros_like, layers), shifts)[0]

    one = compiled(product, layers, layers)

    def one_by_one() -> None:
        for _ in range(benchmark.products):
            one()

    shifts = jnp.linspace(0, 1, benchmark.products)
    return {ONE: one_by_one, IN_LOOP: compiled(all_in_one, layers, layers, shifts)}


def by_appendix(layers: Layers, activation: Activation, network: Network) -> Layers:
    """The diagonal by the appendix's full recursion, at these weights."""
    arguments = (squared_error, layers, activation, *network[1:])
    return appendix_diagonal(full_matrix_recursion, *arguments).total


def measure_diagonals(benchmark: Benchmark, name: str) -> dict[str, Any]:
    """Seconds of each exact diagonal of one network, over those of one product."""
    network = draw(name, 1)
    layers, activation = network[0], parse_activation(benchmark.activation)
    products = make_products(benchmark, network)
    diagonals = our_diagonals(squared_error, activation, network)
    diagonals["appendix"] = compiled(
        lambda layers: by_appendix(layers, activation, network), layers
    )
    values = {method: diagonal() for method, diagonal in diagonals.items()}
    times = harness.interleaved(products | diagonals, benchmark.rounds)
    for own in (times[method] for method in products):
        own.wall[:] = [t / benchmark.products for t in own.wall]
        own.cpu[:] = [t / benchmark.products for t in own.cpu]
    return {
        "parameters": num_parameters(layers),
        "neurons": sum(layer.bias.size for layer in layers),
        "errors": {m: error(own, values["basis vectors"]) for m, own in values.items()},
        "times": describe(times, (ONE, IN_LOOP)),
    }


def describe(times: Mapping[str, harness.Times], references: Sequence[str]) -> dict[str, Any]:
    """Seconds of each contender, and over those of the references."""
    return {
        name: {
            "seconds": harness.quartiles(own.wall)._asdict(),
            "cpu_seconds": harness.quartiles(own.cpu)._asdict(),
            "over": {
                reference: {
                    "wall": harness.ratio(own.wall, times[reference].wall)._asdict(),
                    "cpu": harness.ratio(own.cpu, times[reference].cpu)._asdict(),
                }
                for reference in references
            },
            "all": own._asdict(),
        }
        for name, own in times.items()
    }


def resnet_problem(benchmark: Benchmark) -> tuple[Any, ...]:
    """ResNet-18's losses, its parameters and other variables, and a batch of noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (benchmark.batch, 32, 32, 3), np.uint8)
    labels = rng.integers(0, NUM_CLASSES, benchmark.batch, np.int32)
    model = create(
        "resnet18",
        num_classes=NUM_CLASSES,
        activation=benchmark.activation,
        width=benchmark.width,
    )
    rest = model.init(jax.random.key(0), images.shape[1:])
    params = rest.pop("params")

    def losses(params: Any, rest: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        return cross_entropy(model.apply({**rest, "params": params}, images)[0], labels)

    return losses, params, rest, images, labels


def measure_resnet(benchmark: Benchmark) -> dict[str, Any]:
    """Seconds and memory of a gradient and of a product over one batch."""
    losses, params, rest, images, labels = resnet_problem(benchmark)
    gradient = make_dataset_gradient(losses, batch_size=benchmark.batch)
    product = make_dataset_product(losses, batch_size=benchmark.batch)(params, rest, images, labels)
    contenders: dict[str, Diagonal] = {
        "gradient": lambda: jax.block_until_ready(gradient(params, rest, images, labels)),
        "product": lambda: jax.block_until_ready(product(params)),
    }
    for contender in contenders.values():
        contender()
    times = harness.interleaved(contenders, benchmark.rounds)
    memory = measure_memory(losses, params, rest, images, labels)
    return {
        "parameters": num_parameters(params),
        "times": describe(times, ("gradient",)),
        "temporary_bytes": memory,
        "memory_ratio": memory["product"] / memory["gradient"],
    }


def measure_memory(losses: Any, params: Any, rest: Any, images: Any, labels: Any) -> dict[str, int]:
    """The compiler's peak of intermediates for a gradient and for a product over one batch."""

    def loss(params: Any, rest: Any, pixels: jax.Array) -> jax.Array:
        return losses(params, rest, pixels, labels).mean()

    def product(params: Any, rest: Any, pixels: jax.Array, vector: Any) -> Any:
        return hessian_vector_product(lambda params: loss(params, rest, pixels), params, vector)

    pixels = jnp.asarray(images, jnp.float32) / 255
    with jax.default_matmul_precision("highest"):
        programs: dict[str, Any] = {
            "gradient": jax.jit(jax.grad(loss)).lower(params, rest, pixels),
            "product": jax.jit(product).lower(params, rest, pixels, params),
        }
        return {
            name: program.compile().memory_analysis().temp_size_in_bytes
            for name, program in programs.items()
        }


def compare(benchmark: Benchmark, others: Mapping[str, Any]) -> dict[str, Any]:
    """The same diagonal by us and by others."""
    layers, inputs, _ = draw(benchmark.compared, NUM_CLASSES)
    labels = jnp.arange(NUM_EXAMPLES) % NUM_CLASSES
    data = np.asarray(inputs), np.asarray(labels)
    others["torch"].set_num_threads(benchmark.torch_threads)
    ours = our_diagonals(cross_entropy, jnp.tanh, (layers, inputs, labels))
    theirs = {
        "curvlinops": curvlinops_diagonal(others, layers, *data, benchmark.columns),
        "BackPACK": backpack_diagonal(others, layers, *data),
    }
    contenders = ours | theirs
    values = {name: diagonal() for name, diagonal in contenders.items()}
    times = harness.interleaved(contenders, benchmark.rounds)
    return {
        "parameters": num_parameters(layers),
        "errors": {name: error(own, values["basis vectors"]) for name, own in values.items()},
        "times": describe(times, tuple(ours)),
    }


def check_targets(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached, and whether it was; for diagonals by both times of a product."""
    rows = []
    networks = result["diagonals"].values()
    for network in networks:
        p = network["parameters"]
        name = f"basis vectors, per parameter, p = {p:,}"
        rows.append(target(name, 1, network["times"]["basis vectors"], (ONE, IN_LOOP), p))
    largest = max(networks, key=lambda network: network["parameters"])
    name = f"neurons, p = {largest['parameters']:,}"
    rows.append(target(name, 60, largest["times"]["neurons"], (ONE, IN_LOOP)))
    times = result["resnet18"]["times"]
    return [*rows, target("ResNet-18, a product", 3, times[ONE], ("gradient",))]


def target(
    name: str, limit: float, row: Mapping[str, Any], references: Sequence[str], divisor: float = 1
) -> dict[str, Any]:
    """A limit, and the ratios to each reference beside it."""
    values = {r: row["over"][r]["wall"]["median"] / divisor for r in references}
    met = {reference: value < limit for reference, value in values.items()}
    return {"target": name, "below": limit, "over": values, "met": met}


def make_table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    return table


def milliseconds(row: Mapping[str, Any]) -> str:
    """The median of the rounds."""
    return number(1e3 * row["seconds"]["median"])


def quotient(row: Mapping[str, Any], reference: str, clock: str = "wall") -> str:
    """The median and the quartiles of a ratio."""
    ratio = row["over"][reference][clock]
    median, low, high = (number(ratio[name]) for name in harness.Quartiles._fields)
    return f"{median} ({low}-{high})"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(result: Mapping[str, Any], console: Console) -> None:
    for name, network in result["diagonals"].items():
        size = f"{network['parameters']:,} parameters, {network['neurons']} neurons"
        table = make_table(f"{name}: {size}", "", "ms", "over a product", "over one in a loop")
        for method, row in network["times"].items():
            table.add_row(method, milliseconds(row), quotient(row, ONE), quotient(row, IN_LOOP))
        console.print(table)
    resnet = result["resnet18"]
    title = f"ResNet-18: {resnet['parameters']:,} parameters"
    table = make_table(title, "", "ms", "over a gradient", "MB of intermediates")
    for name, row in resnet["times"].items():
        size = f"{resnet['temporary_bytes'][name] / 1e6:.0f}"
        table.add_row(name, milliseconds(row), quotient(row, "gradient"), size)
    console.print(table)
    if "comparison" in result:
        show_comparison(result["comparison"], console)
    table = make_table("Targets", "", "over a", "below", "is", "")
    for row in result["targets"]:
        for reference, value in row["over"].items():
            verdict = "met" if row["met"][reference] else "NOT met"
            table.add_row(row["target"], reference, str(row["below"]), number(value), verdict)
    console.print(table)


def show_comparison(comparison: Mapping[str, Any], console: Console) -> None:
    """Others' times over those of our method of the same kind."""
    title = f"Ours and others': {comparison['parameters']:,} parameters"
    table = make_table(title, "", "ms", "over", "wall", "CPU seconds", "difference")
    for name, row in comparison["times"].items():
        ours = PAIRS.get(name, name)
        clocks = [quotient(row, ours, clock) for clock in ("wall", "cpu")]
        difference = f"{comparison['errors'][name]:.1e}"
        table.add_row(name, milliseconds(row), ours, *clocks, difference)
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
