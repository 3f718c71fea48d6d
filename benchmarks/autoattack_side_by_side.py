"""Ours and the official AutoAttack in turn, in one process, on one network: seconds and verdicts.

    python benchmarks/autoattack_side_by_side.py REFERENCE.npz OFFICIAL
    python benchmarks/autoattack_side_by_side.py REFERENCE.npz OFFICIAL --norms Linf --sizes 96

OFFICIAL is a folder with the official package `autoattack` (github.com/fra31/auto-attack, commit
a392200), which runs in PyTorch (the extra `bench`); REFERENCE.npz as for `autoattack_reference`.
Both attack the first images of each size by the standard version with batches of 128, official
first. Ours runs twice in a fresh compilation cache: compiling everything, then finding all of it
there, as a second process would. Seconds are on the clock and of the CPU, and compiling counts.

Robust counts stand beside them; attacks are random, so a few images apart is the same verdict.
"""

import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import autoattack_reference as reference
import harness
import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from rctaf_jax.eval.autoattack import autoattack

EPSILON = reference.EPSILON
BATCH = 128


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Seconds of both, and what they broke."""

    reference: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="REFERENCE.npz")]
    """Network and images."""
    official: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OFFICIAL")]
    """Folder with the package autoattack."""
    norms: tuple[str, ...] = ("Linf", "L2", "L1")
    """Threat models."""
    sizes: tuple[int, ...] = (96, 512)
    """Numbers of images."""
    threads: int = 2
    """Of PyTorch."""
    ours: str | None = None
    """Run ours alone, in this norm, and print its numbers: what the benchmark starts."""


def ours(arrays: dict[str, np.ndarray], norm: str, size: int) -> dict[str, Any]:
    """Our AutoAttack on the first images: seconds by attack, and what is left."""
    network = reference.make_network(arrays)
    images, labels = arrays["images_uint8"][:size], arrays["labels"][:size]
    clock, cpu = time.perf_counter(), time.process_time()
    result = autoattack(
        network,
        images,
        labels,
        jax.random.key(0),
        norm=norm,
        epsilon=EPSILON[norm],
        batch_size=BATCH,
    )
    return {
        "seconds": time.perf_counter() - clock,
        "cpu_seconds": time.process_time() - cpu,
        "robust": int(result.robust.sum()),
        "attacks": {one.name: one.seconds for one in result.attacks},
    }


def official(arrays: dict[str, np.ndarray], norm: str, size: int) -> dict[str, Any]:
    """The official AutoAttack on the same, by its own log's seconds for the attacks."""
    import torch
    from autoattack import AutoAttack

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ParameterDict(
                {
                    name.removeprefix("weights/").replace(".", "_"): torch.tensor(array)
                    for name, array in arrays.items()
                    if name.startswith("weights/")
                }
            ).requires_grad_(False)
            self.alpha = float(arrays["alpha"])
            # The reference flattens channels last; this, channels first.
            dense = arrays["weights/fc.weight"].reshape(-1, 4, 4, 64).transpose(0, 3, 1, 2)
            self.dense = torch.tensor(dense.reshape(len(dense), -1).T.copy())

        def forward(self, x: Any) -> Any:
            x = (x - 0.5) * 4
            for name, stride in (("c1", 1), ("c2", 2), ("c3", 2)):
                weight, bias = self.parts[f"{name}_weight"], self.parts[f"{name}_bias"]
                x = torch.nn.functional.conv2d(x, weight, bias, stride, 1)
                x = x * torch.sigmoid(self.alpha * x)
            x = torch.nn.functional.avg_pool2d(x, 2).flatten(1)
            return x @ self.dense + self.parts["fc_bias"]

    network = Network().eval()
    channels_first = np.ascontiguousarray(arrays["images_uint8"][:size].transpose(0, 3, 1, 2))
    x = torch.tensor(channels_first / 255, dtype=torch.float32)
    y = torch.tensor(arrays["labels"][:size], dtype=torch.long)
    logits = network(x[:8]).numpy()
    difference = np.abs(logits - arrays["clean_logits"][:8]).max()
    if not difference < 1e-3:
        raise SystemExit(f"the network in PyTorch differs from the reference by {difference:.1e}.")
    attack = AutoAttack(network, norm=norm, eps=EPSILON[norm], device="cpu", seed=0, verbose=False)
    stamps: list[tuple[str, float]] = []
    clock, cpu = time.perf_counter(), time.process_time()
    attack.verbose = True
    attack.logger.log = lambda text: stamps.append((text, time.perf_counter() - clock))
    adversarial = attack.run_standard_evaluation(x, y, bs=BATCH)
    seconds, cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
    with torch.no_grad():
        robust = int((network(adversarial).argmax(1) == y).sum())
    ends = [(t.split()[3].lower(), at) for t, at in stamps if t.startswith("robust accuracy after")]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "robust": robust,
        "attacks": {
            name: at - before
            for (name, at), before in zip(ends, [0.0, *(at for _, at in ends)], strict=False)
        },
    }


def in_a_process(benchmark: Benchmark, norm: str, size: int, cache: str) -> dict[str, Any]:
    """Ours in a process of its own, which compiles into, or out of, this cache."""
    import json
    import os

    words = [sys.executable, __file__, str(benchmark.reference), str(benchmark.official)]
    words += ["--ours", norm, "--sizes", str(size)]
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(benchmark: Benchmark) -> None:
    console = Console()
    with np.load(benchmark.reference) as file:
        arrays = dict(file)
    if benchmark.ours is not None:
        import json

        print(json.dumps(ours(arrays, benchmark.ours, benchmark.sizes[0])))
        return
    import torch

    sys.path.insert(0, str(benchmark.official))
    torch.set_num_threads(benchmark.threads)
    stated = {"norms": benchmark.norms, "sizes": benchmark.sizes, "threads": benchmark.threads}
    result = harness.start(reference=benchmark.reference.name, **stated)
    result["data"] = "CIFAR-10, a JPEG copy (quality 75, 4:2:0)"
    result["torch"] = torch.__version__
    result["rows"] = []
    for norm in benchmark.norms:
        for size in benchmark.sizes:
            with tempfile.TemporaryDirectory() as cache:
                row = {
                    "norm": norm,
                    "images": size,
                    "official": official(arrays, norm, size),
                    "ours, cold": in_a_process(benchmark, norm, size, cache),
                    "ours, warm": in_a_process(benchmark, norm, size, cache),
                }
            result["rows"].append(row)
            console.print(show(row))
    harness.save("autoattack_side_by_side", result, console)


def show(row: dict[str, Any]) -> Table:
    """One norm and size: a row for each contender."""
    table = Table(title=f"{row['norm']}, {row['images']} images")
    theirs = row["official"]["attacks"]
    for title in ("", "s", "official / it", "CPU s", "robust", *theirs):
        table.add_column(title, justify="right")
    for who in ("official", "ours, cold", "ours, warm"):
        one = row[who]
        ratio = row["official"]["seconds"] / one["seconds"]
        seconds = [f"{value:.1f}" for value in one["attacks"].values()]
        cells = [f"{one['seconds']:.1f}", f"{ratio:.2f}", f"{one['cpu_seconds']:.1f}"]
        table.add_row(who, *cells, str(one["robust"]), *seconds)
    return table


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
