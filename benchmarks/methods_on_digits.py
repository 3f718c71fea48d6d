"""Does every training method learn robustness? All of them on digits, three seeds, AutoAttack.

    python benchmarks/methods_on_digits.py

resnet-mini with RCT-AF beta 1 at curvature 7, Linf 0.2. Each method has its published loss, inner
maximisation, budget, weight perturbation and averaging; length (20 epochs), learning rate (0.1,
cosine) and weight decay (5e-4) are the same for all, since published ones are made for CIFAR-10.
Robust accuracy is AutoAttack's, standard version, on the first 150 test images, classes balanced.
Intervals are 95% over seeds, by Student's t, their spread pooled over the methods.

Takes 20 minutes on two CPU cores; interrupted and started again it goes on. Expect standard
training to withstand on no image, and every other method on 30% to 56% of them.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import harness
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from scipy.special import stdtrit

from rctaf_jax.config import DataConfig, EvaluationConfig, HessianConfig, SweepConfig
from rctaf_jax.experiments.results.row import Row
from rctaf_jax.experiments.results.rows import load_results
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.experiments.sweep.presets import DIGITS
from rctaf_jax.experiments.sweep.setup import resolve_sweep
from rctaf_jax.experiments.sweep.sweep import run_sweep
from rctaf_jax.training import METHODS


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Every method under one attack."""

    methods: tuple[str, ...] = tuple(METHODS)
    """Of the registry."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One network for each."""
    epochs: int = 20
    """Of training."""
    num_test: int = 150
    """Images under attack."""
    folder: Path = Path("runs/methods-on-digits")
    """Where sweeps are kept."""


def main(benchmark: Benchmark) -> None:
    console = Console()
    result = harness.start(**{**dataclasses.asdict(benchmark), "folder": str(benchmark.folder)})
    rows: dict[str, list[Row]] = {}
    result["train"] = {}
    for method in benchmark.methods:
        resolved = resolve_sweep(sweep_config(benchmark, method))
        result["data"] = resolved.dataset.provenance()
        result["train"][method] = dataclasses.asdict(resolved.config.train)
        folder = benchmark.folder / method
        with SweepProgress(console) as progress:
            run_sweep(resolved, folder, result["environment"]["command"], progress)
        rows[method] = list(load_results(folder).rows)
    result["methods"] = summaries(rows)
    show(result["methods"], console)
    harness.save("methods_on_digits", result, console)


def sweep_config(benchmark: Benchmark, method: str) -> SweepConfig:
    """One curvature, one method, a few seeds."""
    train = dataclasses.replace(
        DIGITS.train,
        method=method,
        attack_steps=None,
        step_size=None,
        epochs=benchmark.epochs,
        learning_rate=0.1,
        weight_decay=5e-4,
    )
    return SweepConfig(
        data=DataConfig(num_test=benchmark.num_test),
        train=train,
        evaluation=EvaluationConfig(attack="autoattack"),
        hessian=HessianConfig(num_probes=2, num_examples=100),
        betas=(1,),
        curvatures=(7.0,),
        baselines=(),
        seeds=benchmark.seeds,
    )


def summaries(rows: dict[str, list[Row]]) -> dict[str, Any]:
    """Mean accuracies of each method with their intervals, and each network's own numbers."""
    found = {method: {} for method in rows}  # type: dict[str, dict[str, Any]]
    for name in ("clean_correct", "robust_correct"):
        values = {
            method: np.array([getattr(row, name) / row.num_test for row in of_method])
            for method, of_method in rows.items()
        }
        half = half_width(list(values.values()))
        for method, each in values.items():
            mean = float(each.mean())
            found[method][name.removesuffix("_correct")] = {
                "mean": mean,
                "interval": [max(mean - half, 0.0), min(mean + half, 1.0)],
                "each": each.tolist(),
            }
    for method, of_method in rows.items():
        found[method]["training_seconds"] = float(
            np.mean([row.seconds["train"] for row in of_method])
        )
    return found


def half_width(groups: list[np.ndarray]) -> float:
    """Of a mean's 95% interval, from the spread within groups of equal size."""
    freedom = sum(len(group) - 1 for group in groups)
    variance = sum(((group - group.mean()) ** 2).sum() for group in groups) / freedom
    return float(stdtrit(freedom, 0.975)) * math.sqrt(variance / len(groups[0]))


def show(methods: dict[str, Any], console: Console) -> None:
    table = Table(title="Digits, Linf 0.2, AutoAttack: means over seeds with 95% intervals, %")
    for column in ("method", "clean", "robust", "each seed", "s of training"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, row in methods.items():
        cells = [
            f"{100 * part['mean']:.1f} ({100 * part['interval'][0]:.1f} to "
            f"{100 * part['interval'][1]:.1f})"
            for part in (row["clean"], row["robust"])
        ]
        each = " ".join(f"{100 * value:.0f}" for value in row["robust"]["each"])
        table.add_row(method, *cells, each, f"{row['training_seconds']:.1f}")
    console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
