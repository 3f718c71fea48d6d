"""APGD in L1 by how many entries of a gradient it follows: which way breaks more images.

    python benchmarks/l1_sparsity.py REFERENCE.npz

A step follows L0(x - x_0) / 1.5 entries of the gradient, L0 counting the entries that were changed.
The official code counts rounding's residue as changed, too, so it follows about 26% of them at any
time, where an exact count begins at 1%. Ways: `exact`; `first`, 26% in the first step's phase until
its first check; `phases`, the same in each of the three phases; `residue`, 26% for good, and never
back to the best point for being sparser. Both attacks of the standard version, over several seeds.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import autoattack_reference as reference
import harness
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from rctaf_jax.eval import autoattack
from rctaf_jax.eval.autoattack import apgd_l1

RESIDUE = 0.383 / 1.5
"""The share that the official code's count comes to on 32x32x3 images."""

Adapt = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Images that withstand, by way and seed."""

    reference: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="REFERENCE.npz")]
    """Network and images."""
    num_images: int = 512
    """The first so many."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of random starts."""
    ways: tuple[str, ...] = ("exact", "first", "phases", "residue")
    """Which to compare."""
    attacks: tuple[str, ...] = ("apgd-ce", "apgd-t")
    """Each by itself, on all correct images."""


def way_named(name: str, exact: Adapt) -> Adapt:
    """`apgd_l1._adapt`, changed."""

    def adapt(radius: Any, is_first: Any, is_check: Any, perturbation: Any, memory: Any) -> Any:
        # The radius is 3 epsilon in the first phase alone, and grows nowhere.
        found, is_sparser = exact(radius, is_first, is_check, perturbation, memory)
        is_opening = is_first & (memory.step_size == 0) if name == "first" else is_first
        if name == "residue":
            is_opening, is_sparser = jnp.ones_like(is_first), jnp.zeros_like(is_sparser)
            smaller = jnp.maximum(memory.step_size / 1.5, 0.1 * radius)
            step_size = jnp.where(is_check, smaller, memory.step_size)
            found = found._replace(step_size=jnp.where(is_first, radius, step_size))
        fraction = jnp.where(is_opening, RESIDUE, found.fraction).astype(found.fraction.dtype)
        return found._replace(fraction=fraction), is_sparser

    return exact if name == "exact" else adapt


def main(benchmark: Benchmark) -> None:
    console = Console()
    with np.load(benchmark.reference) as arrays:
        values = dict(arrays)
    part = slice(benchmark.num_images)
    network = reference.make_network(values)
    stated = dataclasses.asdict(benchmark) | {"reference": benchmark.reference.name}
    result = harness.start(**stated)
    result["data"] = "CIFAR-10, a JPEG copy (quality 75, 4:2:0)"
    exact, rows = apgd_l1._adapt, []
    for seed in benchmark.seeds:
        for way in benchmark.ways:
            apgd_l1._adapt = way_named(way, exact)
            found = autoattack(
                network,
                values["images_uint8"][part],
                values["labels"][part],
                jax.random.key(seed),
                norm="L1",
                epsilon=reference.EPSILON["L1"],
                attacks=benchmark.attacks,
                individual=True,
            )
            counts = {one.name: int(one.robust.sum()) for one in found.attacks}
            rows.append({"way": way, "seed": seed, **counts, "both": int(found.robust.sum())})
            console.print(rows[-1])
            result["rows"] = rows
            harness.save("l1_sparsity", result, console)
    table = Table("way", *benchmark.attacks, "both", title="images that withstand, by seed")
    for way in benchmark.ways:
        mine = [row for row in rows if row["way"] == way]
        cells = [", ".join(str(row[name]) for row in mine) for name in (*benchmark.attacks, "both")]
        table.add_row(way, *cells)
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
