"""Training one network, its batch shared by all devices, with checkpoints and a log."""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from rich.console import Console

from rctaf_jax import parallel, processes
from rctaf_jax.experiments.results.training_log import TrainingLine, TrainingLog
from rctaf_jax.experiments.show.epochs import HEADER, EpochRow, epoch_line
from rctaf_jax.experiments.show.progress import make_bars
from rctaf_jax.experiments.show.terminal import say
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.loop import ReportMetrics, check_finite, run_steps
from rctaf_jax.training.preemption import watch_for_termination
from rctaf_jax.training.recipe import ResolvedTraining
from rctaf_jax.training.state import TrainState
from rctaf_jax.training.step import Metrics
from rctaf_jax.training.trainer import device_data, make_trainer

from .folder import ResolvedRun, Run, claim_folder

METRICS = "metrics.jsonl"


def train_run(
    resolved: ResolvedRun,
    folder: Path,
    command: str,
    console: Console,
    *,
    seconds_per_save: float = 60.0,
) -> Run:
    """Train from the folder's newest checkpoint, or from the start, to the end.

    Args:
      resolved: see `folder.resolve_run`.
      folder: made, or gone on with; among several processes, one that all of them see.
      command: written into environment.json.
      console: where progress goes.
      seconds_per_save: the least time between two checkpoints.

    Returns:
      The run, its trained state as host arrays.

    Raises:
      InputError: if the folder belongs to another configuration, the batch cannot be shared by
        the devices, a checkpoint cannot be read, or the loss stops being finite (the checkpoints
        stay).
      Preempted: on SIGTERM, after a checkpoint.
    """
    config, dataset, activation, training = resolved
    devices = jax.devices()
    parallel.check_divides(config.train.batch_size, len(devices))
    trainer = make_trainer(training, activation, dataset, axis_name=parallel.AXIS)
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
        log = TrainingLog(folder / METRICS, first_step)
        processes.on_first(log.restart)
        task = bars.add_task("steps", total=trainer.num_steps, completed=first_step, note="")

        def show(line: TrainingLine) -> None:
            speed = f"{line.images_per_second:,.0f} images/s"
            note = f"loss {line.loss:.3f}, accuracy {line.accuracy:.3f}, {speed}"
            bars.update(task, completed=line.step, note=note)

        def after_epoch(step: int, state: TrainState) -> bool:
            say(console, epoch_line(epoch_row(training, log, step)))
            return False

        if first_step < trainer.num_steps:
            say(console, HEADER)
        replicated = run_steps(
            parallel.data_parallel(trainer.advance, devices, num_arguments=4, shared=(1, 2, 3)),
            parallel.replicate(state, jax.local_devices()),
            device_data(dataset),
            trainer.settings,
            first_step=first_step,
            num_steps=trainer.num_steps,
            report=make_report(training, log, checkpoints, show),
            save=lambda step, state: checkpoints.save(step, parallel.first(state)),
            seconds_per_save=seconds_per_save,
            should_stop=should_stop,
            epoch_steps=training.epoch_steps,
            after_epoch=after_epoch,
        )
    return Run(folder, *resolved, parallel.first(replicated))


def make_report(
    training: ResolvedTraining,
    log: TrainingLog,
    checkpoints: Checkpoints,
    show: Callable[[TrainingLine], None],
) -> ReportMetrics:
    """What the loop tells its metrics: checked, written to the log, and shown."""
    batch_size = training.config.batch_size
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
        line = TrainingLine(step, step / training.epoch_steps, loss, accuracy, rate)
        log.add(line, is_written=processes.is_first())
        show(line)

    return report


def epoch_row(training: ResolvedTraining, log: TrainingLog, step: int) -> EpochRow:
    """What is shown of the epoch that ends with `step`."""
    epoch = step // training.epoch_steps
    mean = log.epoch(epoch, training.epoch_steps, training.config.batch_size)
    rate = training.learning_rate * float(training.schedule(jnp.asarray(step - 1)))
    return EpochRow(
        epoch,
        training.epochs,
        mean.loss,
        mean.accuracy,
        rate,
        mean.seconds,
        mean.images_per_second,
    )
