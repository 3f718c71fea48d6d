"""AutoAttack against the verdicts of the official implementation, image by image.

    python benchmarks/autoattack_reference.py REFERENCE.npz
    python benchmarks/autoattack_reference.py REFERENCE.npz --norms Linf --num-images 64
    python benchmarks/autoattack_reference.py REFERENCE.npz --attacks square --seed 1

The reference holds a small network's weights, images, labels, and for each norm and attack of the
standard version, run on all correctly classified images, which of them withstood it, and the
seconds it took. Ours is run the same way, each attack by itself; an image withstands the ensemble
if it withstands all four. Agreement is counted over all images; the caption has the targets.

The official seconds are another run's on another machine and no comparison, which
`autoattack_side_by_side.py` makes; beside both stands what a forward pass of the network over all
images takes here.

Takes 12 minutes on two idle CPU cores.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rctaf_jax.eval.autoattack import autoattack

EPSILON = {"Linf": 8 / 255, "L2": 0.5, "L1": 12.0}
MOST_APART, MOST_APART_TOGETHER = 8, {"Linf": 4, "L2": 4, "L1": 6}
LEAST_EQUAL = 0.97


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Agreement with the official AutoAttack, and time."""

    reference: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="REFERENCE.npz")]
    """Network, images and official verdicts."""
    norms: tuple[str, ...] = ("Linf", "L2", "L1")
    """Threat models to compare."""
    attacks: tuple[str, ...] = ("apgd-ce", "apgd-t", "fab-t", "square")
    """Those of the standard version to run; with fewer, the results file is named after them."""
    num_images: int | None = None
    """The first so many images only."""
    batch: int = 32
    """Images at a time; on a CPU this network's gradients cost less per image than 64 at a time."""
    seed: int = 0
    """Of our random numbers."""


def make_network(reference: dict[str, np.ndarray]) -> Any:
    """The reference's network: three convolutions, x sigmoid(alpha x), pooling, a dense layer."""
    names = ("c1", "c2", "c3")
    kernels = [reference[f"weights/{n}.weight"].transpose(2, 3, 1, 0) for n in names]
    biases = [reference[f"weights/{n}.bias"] for n in names]
    dense, dense_bias = reference["weights/fc.weight"].T, reference["weights/fc.bias"]
    alpha = float(reference["alpha"])

    def network(x: jax.Array) -> jax.Array:
        x = (x - 0.5) * 4
        for kernel, bias, stride in zip(kernels, biases, (1, 2, 2), strict=True):
            x = jax.lax.conv_general_dilated(
                x,
                jnp.asarray(kernel),
                (stride, stride),
                ((1, 1), (1, 1)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = x + bias
            x = x * jax.nn.sigmoid(alpha * x)
        count, height, width, channels = x.shape
        x = x.reshape(count, height // 2, 2, width // 2, 2, channels).mean((2, 4))
        return x.reshape(count, -1) @ dense + dense_bias

    return network


def main(benchmark: Benchmark) -> None:
    console = Console()
    with np.load(benchmark.reference) as arrays:
        reference = dict(arrays)
    part = slice(benchmark.num_images)
    images, labels = reference["images_uint8"][part], reference["labels"][part]
    network = make_network(reference)
    stated = dataclasses.asdict(benchmark) | {"reference": benchmark.reference.name}
    result = harness.start(**stated)
    result["data"] = "CIFAR-10, a JPEG copy (quality 75, 4:2:0)"
    result["clean_logits_difference"] = check_network(network, reference, images, part)
    result["forward_pass_seconds"] = forward_seconds(network, images)
    result["norms"] = {}
    for norm in track(benchmark.norms, "norms", console=console):
        row = compare(benchmark, network, reference, norm, images, labels, part)
        result["norms"][norm] = row
        console.print(show(norm, row, len(labels)))
        harness.save(results_name(benchmark), result, console)


def results_name(benchmark: Benchmark) -> str:
    """The whole comparison's, or one of its own for a part of it."""
    name = "autoattack_reference"
    if benchmark.attacks != Benchmark.attacks:
        name += f"-{'-'.join(benchmark.attacks)}-seed{benchmark.seed}"
    return name


def check_network(
    network: Any, reference: dict[str, np.ndarray], images: np.ndarray, part: slice
) -> float:
    """The largest difference to the official clean logits; stops if it is not rounding."""
    logits = np.asarray(jax.jit(network)(jnp.asarray(images, jnp.float32) / 255))
    difference = float(np.abs(logits - reference["clean_logits"][part]).max())
    if not difference < 1e-3:
        raise SystemExit(f"the network's logits differ from the reference's by {difference:.1e}.")
    return difference


def forward_seconds(network: Any, images: np.ndarray) -> float:
    """Of a forward pass over all images, the median of 9."""
    compiled, x = jax.jit(network), jnp.asarray(images, jnp.float32) / 255
    compiled(x).block_until_ready()
    seconds = []
    for _ in range(9):
        started = time.perf_counter()
        compiled(x).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return harness.quartiles(seconds).median


def compare(
    benchmark: Benchmark,
    network: Any,
    reference: dict[str, np.ndarray],
    norm: str,
    images: np.ndarray,
    labels: np.ndarray,
    part: slice,
) -> dict[str, Any]:
    """Each attack by itself, and all together, beside the official verdicts."""
    result = autoattack(
        network,
        images,
        labels,
        norm=norm,
        epsilon=EPSILON[norm],
        attacks=benchmark.attacks,
        individual=True,
        key=jax.random.key(benchmark.seed),
        batch_size=benchmark.batch,
    )
    rows, everywhere = {}, reference["clean_correct"][part].copy()
    for report in result.attacks:
        official = reference[f"{norm}/{report.name}/robust"][part]
        everywhere &= official
        rows[report.name] = agreement(report.robust, official) | {
            "seconds": report.seconds,
            "official_seconds": float(reference[f"seconds/{norm}/{report.name}"]),
            "forward_passes": report.forward_passes,
            "backward_passes": report.backward_passes,
        }
    times = {
        which: sum(row[which] for row in rows.values()) for which in ("seconds", "official_seconds")
    }
    together = agreement(result.robust, everywhere) | times | {"warnings": result.warnings}
    return {"attacks": rows, "ensemble": together}


def agreement(ours: np.ndarray, official: np.ndarray) -> dict[str, Any]:
    return {
        "robust": int(ours.sum()),
        "official_robust": int(official.sum()),
        "same_verdict": float((ours == official).mean()),
        "only_ours_broke": int((official & ~ours).sum()),
        "only_official_broke": int((ours & ~official).sum()),
    }


def show(norm: str, row: dict[str, Any], num_images: int) -> Table:
    table = Table(title=f"{norm}: images of {num_images} that withstand")
    table.add_column("attack", no_wrap=True)
    for column in ("ours", "official", "same verdict", "s", "official s", "within"):
        table.add_column(column, justify="right")
    for name, own in [*row["attacks"].items(), ("together", row["ensemble"])]:
        apart = own["robust"] - own["official_robust"]
        limit = MOST_APART_TOGETHER[norm] if name == "together" else MOST_APART
        # Stronger is no fault: only what we failed to break counts against us.
        is_met = apart <= limit and (name == "together" or own["same_verdict"] >= LEAST_EQUAL)
        table.add_row(
            name,
            str(own["robust"]),
            str(own["official_robust"]),
            f"{own['same_verdict']:.1%}",
            f"{own['seconds']:.0f}",
            f"{own['official_seconds']:.0f}",
            "yes" if is_met else "NO",
        )
    table.caption = (
        f"within: at most {MOST_APART} images (together: {MOST_APART_TOGETHER[norm]}) more than "
        f"the official ones, and the same verdict on {LEAST_EQUAL:.0%}."
    )
    return table


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
