"""Peak memory of `rctaf attack`, over the number of images.

    python benchmarks/attack_memory.py

Trains a small perceptron on tiny random images, then attacks 2,000 and 20,000 of them, a process
each. What is done lies on the disk, so memory may grow by the images alone: 16 pixels each.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from rctaf_jax.files import write_arrays

MOST_GROWTH = 150.0
"""Megabytes: images, adversarial images and flags in single precision, a few copies of each."""


def main(num_images: tuple[int, ...] = (2_000, 20_000)) -> None:
    """Attack so many images, a process for each number.

    Args:
      num_images: rising numbers of test images.
    """
    console = Console()
    result = harness.start(num_images=num_images)
    with tempfile.TemporaryDirectory() as place:
        data, run = Path(place) / "tiny.npz", Path(place) / "run"
        write_images(data, max(num_images))
        words = f"train --data {data} --model mlp-1x8 --method pgd-at --epochs 1 --output {run}"
        words += " --evaluation-batch 2000 --pgd-steps 1 --epsilon 0.1 --step-size 0.05"
        rctaf(words + " --attack-steps 1")
        peaks = {}
        for count in num_images:
            words = f"attack {run} --attacks apgd-ce --num-examples {count}"
            peaks[count] = rctaf(f"{words} --output {place}/{count}")
    result["peak_megabytes"] = peaks
    growth = max(peaks.values()) - min(peaks.values())
    result["target"] = {"most_growth": MOST_GROWTH, "met": growth <= MOST_GROWTH}
    table = Table("images", "peak, MB")
    for count, peak in peaks.items():
        table.add_row(f"{count:,}", f"{peak:.0f}")
    console.print(table)
    harness.save("attack_memory", result, console)


def write_images(path: Path, num_test: int) -> None:
    """Random 4x4 images of four classes, told apart by one bright quarter."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 1_000), ("test", num_test)):
        labels = np.arange(count) % 4
        images = rng.integers(0, 150, (count, 4, 4), np.uint8)
        for label in range(4):
            row, column = divmod(label, 2)
            images[labels == label, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 90
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    write_arrays(path, arrays)


def rctaf(words: str) -> float:
    """Peak memory of a command in megabytes; its output is not shown."""
    code = (
        "import resource, sys; from rctaf_jax.cli import main; code = main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words.split()], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    tyro.cli(main)
