"""Training one network, its batch shared by all devices, with checkpoints and a log."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
from rich.console import Console

from rctaf_jax import parallel, processes
from rctaf_jax.activations import parse_activation
from rctaf_jax.data import Dataset
from rctaf_jax.experiments.show.progress import make_bars
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.loop import ReportMetrics, check_finite, run_steps
from rctaf_jax.training.preemption import watch_for_termination
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.state import TrainState
from rctaf_jax.training.step import Metrics
from rctaf_jax.training.trainer import device_data, make_trainer
from rctaf_jax.values import check_seed

from .folder import RunConfig, claim_folder


class LogLine(NamedTuple):
    """One line of metrics.jsonl: means over the steps since the last line."""

    step: int
    epoch: float
    loss: float
    accuracy: float
    images_per_second: float


def train_run(
    config: RunConfig,
    dataset: Dataset,
    folder: Path,
    command: str,
    console: Console,
    *,
    seconds_per_save: float = 60.0,
) -> TrainState:
    """Train from the folder's newest checkpoint, or from the start, to the end.

    Args:
      config: its `train` resolved.
      dataset: what `config.data` names.
      folder: made, or gone on with; among several processes, one that all of them see.
      command: written into environment.json.
      console: where progress goes.
      seconds_per_save: the least time between two checkpoints.

    Returns:
      The trained state, as host arrays.

    Raises:
      InputError: if the folder belongs to another configuration, the batch cannot be shared by
        the devices, a checkpoint cannot be read, or the loss stops being finite (the checkpoints
        stay).
      Preempted: on SIGTERM, after a checkpoint.
    """
    devices = jax.devices()
    parallel.check_divides(config.train.batch_size, len(devices))
    activation = parse_activation(config.activation)
    trainer = make_trainer(config.train, activation, dataset, axis_name=parallel.AXIS)
    processes.on_first(lambda: claim_folder(folder, config, dataset, command))
    state = trainer.initial(config.seed, activation.alpha)
    with (
        Checkpoints(folder / "checkpoints") as checkpoints,
        make_bars(console) as bars,
        watch_for_termination() as should_stop,
    ):
        first_step = checkpoints.latest or 0
        if first_step:
            state = checkpoints.restore(state)
            console.print(f"going on from step {first_step} of {trainer.num_steps}.")
        task = bars.add_task("steps", total=trainer.num_steps, completed=first_step, note="")

        def show(line: LogLine) -> None:
            speed = f"{line.images_per_second:,.0f} images/s"
            note = f"loss {line.loss:.3f}, accuracy {line.accuracy:.3f}, {speed}"
            bars.update(task, completed=line.step, note=note)

        replicated = run_steps(
            parallel.data_parallel(trainer.advance, devices, num_arguments=4, shared=(1, 2, 3)),
            parallel.replicate(state, jax.local_devices()),
            device_data(dataset),
            trainer.settings,
            first_step=first_step,
            num_steps=trainer.num_steps,
            report=make_report(config, dataset, folder / "metrics.jsonl", checkpoints, show),
            save=lambda step, state: checkpoints.save(step, parallel.first(state)),
            seconds_per_save=seconds_per_save,
            should_stop=should_stop,
        )
    return parallel.first(replicated)


def make_report(
    config: RunConfig,
    dataset: Dataset,
    log: Path,
    checkpoints: Checkpoints,
    show: Callable[[LogLine], None],
) -> ReportMetrics:
    """What the loop tells its metrics: checked, written to the log, and shown."""
    batch_size = config.train.batch_size
    epoch_steps = len(dataset.train.labels) // batch_size
    reported = time.monotonic()

    def report(step: int, metrics: Metrics) -> None:
        nonlocal reported
        saved = checkpoints.latest
        kept = f"the checkpoint of step {saved} is kept." if saved else "there is no checkpoint."
        check_finite(metrics, f"try a lower learning rate or a smaller curvature; {kept}")
        first: Metrics = jax.tree.map(lambda leaf: leaf[0], metrics)
        count, now = int(first.num_steps), time.monotonic()
        rate, reported = count * batch_size / max(now - reported, 1e-9), now
        loss, accuracy = float(first.loss) / count, float(first.accuracy) / count
        line = LogLine(step, step / epoch_steps, loss, accuracy, rate)
        if processes.is_first():
            append_line(log, line)
        show(line)

    return report


def append_line(path: Path, line: LogLine) -> None:
    """Add one line of JSON to a log."""
    with path.open("a") as log:
        log.write(json.dumps(line._asdict()) + "\n")


def resolve_run(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Fill in what was left out, and check it.

    Raises:
      InputError: naming what cannot be.
    """
    check_seed(config.seed)
    text = parse_activation(config.activation).text
    return RunConfig(config.data, resolve(config.train, dataset), text, config.seed)
