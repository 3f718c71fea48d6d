"""AutoAttack that searches with a cheaper network: verdicts beside those of a search in float32.

    python benchmarks/autoattack_search.py REFERENCE.npz

Accelerators search in TensorFloat-32, or with a copy of the network in bfloat16, and believe an
image only that float32 confirms. Here both are emulated on the CPU, by rounding what goes into
every product to 11 or 8 bits: for the small network of the reference (CIFAR-10, a JPEG copy), and
for a small ResNet that is trained on digits first (TRADES, a minute). All attacks of the standard
version; the count that is robust, and the images with another verdict than in float32.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import harness
import jax
import numpy as np
import tyro
from autoattack_reference import EPSILON, make_network
from jax.extend.core import ClosedJaxpr, Literal
from rich.console import Console
from rich.table import Table

from rctaf_jax.data import load
from rctaf_jax.eval import autoattack
from rctaf_jax.training import train

BITS = {"TensorFloat-32": 10, "bfloat16": 7}
"""Of the mantissa, the leading one not counted."""
DIGITS_EPSILON = {"Linf": 0.2, "L2": 0.6, "L1": 1.5}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Verdicts by the precision of the search."""

    reference: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="REFERENCE.npz")]
    """Network, images and labels."""
    num_images: int = 512
    """Of each data set."""
    norms: tuple[str, ...] = ("Linf", "L2", "L1")
    """Threat models."""
    networks: tuple[str, ...] = ("reference", "digits")
    """Which networks."""


class Subject(NamedTuple):
    """A network and what it is attacked with."""

    network: Callable[..., Any]
    images: np.ndarray
    labels: np.ndarray
    epsilon: dict[str, float]


def of_reference(benchmark: Benchmark) -> Subject:
    with np.load(benchmark.reference) as arrays:
        reference = dict(arrays)
    part = slice(benchmark.num_images)
    images, labels = reference["images_uint8"][part], reference["labels"][part]
    return Subject(make_network(reference), images, labels, EPSILON)


def of_digits(benchmark: Benchmark) -> Subject:
    digits = load("digits")
    network = train("resnet-mini", digits, method="trades", epsilon=0.2, epochs=20)
    images = np.concatenate([digits.test.images, digits.train.images])[: benchmark.num_images]
    labels = np.concatenate([digits.test.labels, digits.train.labels])[: benchmark.num_images]
    return Subject(network.__call__, images, labels, DIGITS_EPSILON)


def rounded_products(network: Callable[..., Any], bits: int) -> Callable[[jax.Array], jax.Array]:
    """The network with what goes into its convolutions and products rounded to so many bits."""

    def call(x: jax.Array) -> jax.Array:
        return evaluate(jax.make_jaxpr(network)(x), [x], bits)[0]

    return call


def evaluate(closed: ClosedJaxpr, arguments: list[Any], bits: int) -> list[Any]:
    """A jaxpr's results, its products rounded."""
    values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(closed.jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in closed.jaxpr.eqns:
        inputs, name = [read(atom) for atom in equation.invars], equation.primitive.name
        if name in ("jit", "pjit"):
            results = evaluate(equation.params["jaxpr"], inputs, bits)
        else:
            if name in ("dot_general", "conv_general_dilated"):
                inputs = [rounded(value, bits) for value in inputs]
            parameters = equation.primitive.get_bind_params(equation.params)
            results = equation.primitive.bind(*inputs, **parameters)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def rounded(value: jax.Array, bits: int) -> jax.Array:
    """To so many bits, and its gradient likewise, as products of the backward pass are."""
    return jax.lax.reduce_precision(value, exponent_bits=8, mantissa_bits=bits)


def compare(subject: Subject, norm: str) -> dict[str, Any]:
    """Robust counts by the search's precision, and verdicts that differ from float32's."""

    def robust(search: Any) -> np.ndarray:
        return autoattack(
            subject.network,
            subject.images,
            subject.labels,
            jax.random.key(0),
            norm=norm,
            epsilon=subject.epsilon[norm],
            search=search,
        ).robust

    exact = robust(None)
    row: dict[str, Any] = {"float32": {"robust": int(exact.sum())}}
    for name, bits in BITS.items():
        found = robust(rounded_products(subject.network, bits))
        row[name] = {
            "robust": int(found.sum()),
            "only this broke": int((exact & ~found).sum()),
            "only float32 broke": int((found & ~exact).sum()),
        }
    return row


def main(benchmark: Benchmark) -> None:
    console = Console()
    stated = dataclasses.asdict(benchmark) | {"reference": benchmark.reference.name}
    result = harness.start(**stated)
    result["data"] = "reference: CIFAR-10, a JPEG copy (quality 75, 4:2:0); digits: UCI, 8x8"
    table = Table("network", "norm", "images", "robust, float32", *BITS)
    makers = {"reference": of_reference, "digits": of_digits}
    for name in benchmark.networks:
        subject = makers[name](benchmark)
        for norm in benchmark.norms:
            row = compare(subject, norm)
            result.setdefault("rows", []).append({"network": name, "norm": norm, **row})
            cells = [
                f"{row[kind]['robust']} (+{row[kind]['only float32 broke']}, "
                f"-{row[kind]['only this broke']})"
                for kind in BITS
            ]
            count = str(len(subject.labels))
            table.add_row(name, norm, count, str(row["float32"]["robust"]), *cells)
            console.print(table)
            parts = "-".join([*benchmark.networks, *benchmark.norms])
            harness.save(f"autoattack_search-{parts}", result, console)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
