"""Square against the official implementation over several seeds, where one run of each disagrees.

    python benchmarks/square_seeds.py REFERENCE.npz OFFICIAL

Ours draws windows and signs for each image, the official one for the whole batch; an image's law is
the same, so over seeds ours should break no fewer images. REFERENCE.npz is that of
`autoattack_reference.py`, with one official verdict for each image; OFFICIAL a checkout of the
official code (github.com/fra31/auto-attack), which needs PyTorch. First ours goes once over all
correctly classified images. Then both go over those with another verdict than the official one,
with seeds that neither has used.

Takes up to an hour on two busy CPU cores, mostly in L1. Expect that ours leaves no more of these
images unbroken.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import harness
import jax
import numpy as np
import tyro
from autoattack_reference import EPSILON, make_network
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rctaf_jax.eval.autoattack import autoattack

SEARCH_SEED = 1000
Withstands = Callable[[np.ndarray, int], np.ndarray]
"""(which images, seed) to which of them withstand."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """How many images withstand Square, ours and the official one, over seeds."""

    reference: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="REFERENCE.npz")]
    """Network, images and official verdicts."""
    official: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OFFICIAL")]
    """Folder of the official code, with `autoattack/square.py` in it."""
    norms: tuple[str, ...] = ("Linf", "L2", "L1")
    """Threat models to compare."""
    seeds: int = 8
    """Runs of each."""


def main(benchmark: Benchmark) -> None:
    console = Console()
    with np.load(benchmark.reference) as arrays:
        reference = dict(arrays)
    result = harness.start(norms=benchmark.norms, seeds=benchmark.seeds)
    result["norms"] = {}
    for norm in benchmark.norms:
        ours = make_ours(reference, norm)
        theirs = make_official(benchmark.official, reference, norm)
        result["norms"][norm] = compare(benchmark, reference, norm, ours, theirs, console)
        harness.save("square_seeds", result, console)
    console.print(show(result["norms"]))


def compare(
    benchmark: Benchmark,
    reference: dict[str, np.ndarray],
    norm: str,
    ours: Withstands,
    theirs: Withstands,
    console: Console,
) -> dict[str, Any]:
    """Counts of all images once, and of those with two verdicts over seeds."""
    correct = np.flatnonzero(reference["clean_correct"])
    with console.status(f"{norm}: ours on {len(correct)} images ..."):
        once = ours(correct, SEARCH_SEED)
    official = reference[f"{norm}/square/robust"][correct]
    apart = correct[once != official]
    seeds = range(1, 1 + benchmark.seeds)
    runs = track(seeds if len(apart) else (), f"{norm}: both on {len(apart)}", console=console)
    counts = [(int(ours(apart, s).sum()), int(theirs(apart, s).sum())) for s in runs]
    return {
        "once": {"ours": int(once.sum()), "official": int(official.sum())},
        "only_ours_broke": int((official & ~once).sum()),
        "only_official_broke": int((once & ~official).sum()),
        "apart": len(apart),
        "ours": [own for own, _ in counts],
        "official": [other for _, other in counts],
    }


def make_ours(reference: dict[str, np.ndarray], norm: str) -> Withstands:
    network = make_network(reference)

    def withstands(which: np.ndarray, seed: int) -> np.ndarray:
        images, labels = reference["images_uint8"][which], reference["labels"][which]
        result = autoattack(
            network,
            images,
            labels,
            norm=norm,
            epsilon=EPSILON[norm],
            attacks=("square",),
            key=jax.random.key(seed),
            batch_size=min(64, len(which)),
        )
        return np.asarray(result.robust)

    return withstands


def make_official(folder: Path, reference: dict[str, np.ndarray], norm: str) -> Withstands:
    """The official code on the same network, one thread: on so few images a second one costs."""
    import torch

    sys.path.insert(0, str(folder))
    from autoattack.square import SquareAttack

    torch.set_num_threads(1)
    network = make_torch_network(torch, reference)

    def withstands(which: np.ndarray, seed: int) -> np.ndarray:
        pixels = np.ascontiguousarray(reference["images_uint8"][which].transpose(0, 3, 1, 2))
        x = torch.tensor(pixels).float() / 255
        y = torch.tensor(reference["labels"][which]).long()
        attack = SquareAttack(
            network, norm=norm, eps=EPSILON[norm], n_queries=5000, seed=seed, device="cpu"
        )
        with torch.no_grad():
            return np.asarray(network(attack.perturb(x, y)).argmax(1) == y)

    return withstands


def make_torch_network(torch: Any, reference: dict[str, np.ndarray]) -> Callable[[Any], Any]:
    """The network of `autoattack_reference.make_network`."""
    weights = {n: torch.tensor(v) for n, v in reference.items() if n.startswith("weights/")}
    alpha, functional = float(reference["alpha"]), torch.nn.functional

    def network(x: Any) -> Any:
        x = (x - 0.5) * 4
        for name, stride in (("c1", 1), ("c2", 2), ("c3", 2)):
            kernel, bias = weights[f"weights/{name}.weight"], weights[f"weights/{name}.bias"]
            x = functional.conv2d(x, kernel, bias, stride=stride, padding=1)
            x = x * torch.sigmoid(alpha * x)
        x = functional.avg_pool2d(x, 2).permute(0, 2, 3, 1).flatten(1)
        return x @ weights["weights/fc.weight"].T + weights["weights/fc.bias"]

    return network


def show(norms: dict[str, Any]) -> Table:
    table = Table(title="Images that withstand Square: ours / official")
    for column in ("norm", "all, once", "with two verdicts", "of these, mean over seeds"):
        table.add_column(column, justify="left" if column == "norm" else "right")
    for norm, row in norms.items():
        means = [f"{np.mean(row[whose] or [0]):.1f}" for whose in ("ours", "official")]
        once = f"{row['once']['ours']} / {row['once']['official']}"
        table.add_row(norm, once, str(row["apart"]), " / ".join(means))
    return table


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
