"""The paper's appendix against autodiff on small networks: `rctaf validate-appendix`."""

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from rctaf_jax.activations import parse_activation
from rctaf_jax.experiments.run.environment import describe_environment
from rctaf_jax.experiments.show.plotting import save_figure
from rctaf_jax.experiments.show.progress import make_bars
from rctaf_jax.experiments.show.terminal import say
from rctaf_jax.files import write_json

from .figure import appendix_figure
from .measure import AppendixConfig, Measurement, measure_depth
from .tables import error_table, growth_table, layer_table

DEFAULT = AppendixConfig()


def validate_appendix(
    output: Path, console: Console, command: str, *, config: AppendixConfig = DEFAULT
) -> list[dict[str, Any]]:
    """Measures how far the paper's formulas are from autodiff, and says it in tables and a figure.

    Everything is in float64, whatever the setting outside.

    Args:
      output: folder for `appendix.json`, `appendix.png` and `appendix.svg`.
      console: for progress and tables.
      command: the command line, for the record.
      config: which networks.

    Returns:
      The rows of `appendix.json`: medians over seeds for each beta, depth, alpha and training step.
    """
    output.mkdir(parents=True, exist_ok=True)
    environment, started = describe_environment(command), time.monotonic()
    rows = _measure(config, console)
    write_json(
        output / "appendix.json",
        {
            "config": dataclasses.asdict(config),
            "environment": environment,
            "seconds": round(time.monotonic() - started, 1),
            "rows": rows,
        },
    )
    save_figure(appendix_figure(rows), output / "appendix")
    for table in (error_table(rows), layer_table(rows), growth_table(rows)):
        console.print(table)
    names = ", ".join(f"appendix.{ending}" for ending in ("json", "png", "svg"))
    say(console, f"Results: {names} in {output}")
    return rows


def _measure(config: AppendixConfig, console: Console) -> list[dict[str, Any]]:
    rows = []
    with make_bars(console) as bars, jax.enable_x64(True):
        task = bars.add_task("networks", total=len(config.betas) * len(config.depths), note="")
        for beta in config.betas:
            for depth in config.depths:
                bars.update(task, note=f"beta = {beta}, {depth} hidden layers")
                activation = parse_activation(f"rct-af:beta={beta},alpha=1")
                measured = measure_depth(activation, depth, config)
                for steps, measurement in measured.items():
                    place = Place(beta, depth, steps)
                    rows += _rows(place, config.alphas, measurement)
                bars.advance(task)
            say(console, f"beta = {beta} is measured.")
    return rows


class Place(NamedTuple):
    """What a program's measurements have in common."""

    beta: int
    hidden_layers: int
    steps: int


def _rows(
    place: Place, alphas: tuple[float, ...], measurement: Measurement
) -> list[dict[str, Any]]:
    """One row for each alpha: medians over seeds, and the range of the paper's error."""
    rows = []
    for index, alpha in enumerate(alphas):
        activation = parse_activation(f"rct-af:beta={place.beta},alpha={alpha}")
        values = {name: leaf[index] for name, leaf in measurement._asdict().items()}
        errors = values["paper_error"]
        rows.append(
            {
                **place._asdict(),
                "alpha": alpha,
                "max_curvature": activation.max_curvature,
                **{name: np.median(value, axis=0).tolist() for name, value in values.items()},
                "paper_error_range": [float(errors.min()), float(errors.max())],
            }
        )
    return rows
