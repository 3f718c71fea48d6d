"""Training one network, its batch shared by all devices, with checkpoints and a log."""

import contextlib
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.progress import Progress

from rctaf_jax import parallel, processes
from rctaf_jax.experiments.results.training_log import (
    TrainingLine,
    TrainingLog,
    ValidationLine,
)
from rctaf_jax.experiments.show.epochs import EpochRow, epoch_header, epoch_line
from rctaf_jax.experiments.show.progress import make_bars
from rctaf_jax.experiments.show.terminal import say
from rctaf_jax.training.best import BestCheckpoint
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.loop import check_finite, run_steps
from rctaf_jax.training.preemption import watch_for_termination
from rctaf_jax.training.recipe import ResolvedTraining
from rctaf_jax.training.state import TrainState
from rctaf_jax.training.step import Metrics
from rctaf_jax.training.trainer import device_data, make_trainer

from .folder import BEST, ResolvedRun, Run, claim_folder
from .validation import Validation

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
    config, dataset, activation, training, _ = resolved
    devices = jax.devices()
    parallel.check_divides(config.train.batch_size, len(devices))
    trainer = make_trainer(training, activation, dataset, axis_name=parallel.AXIS)
    processes.on_first(lambda: claim_folder(folder, config, dataset, command))
    state = trainer.initial(config.seed, activation.alpha)
    with (
        Checkpoints(folder / "checkpoints") as checkpoints,
        make_bars(console) as bars,
        watch_for_termination() as should_stop,
        contextlib.ExitStack() as stack,
    ):
        first_step = checkpoints.latest or 0
        if first_step:
            state = checkpoints.restore(state)
            console.print(f"going on from step {first_step} of {trainer.num_steps}.")
        log = TrainingLog(folder / METRICS, first_step)
        processes.on_first(log.restart)
        validation = None
        if resolved.validation is not None:
            kept = stack.enter_context(Checkpoints(folder / BEST / "checkpoints", num_kept=1))
            validation = Validation(resolved, log, BestCheckpoint(kept))
        is_over = validation is not None and validation.is_over(first_step)
        watch = Watch(training, log, checkpoints, validation, console, bars)
        watch.begin(first_step, is_over=is_over)
        replicated = run_steps(
            parallel.data_parallel(trainer.advance, devices, num_arguments=4, shared=(1, 2, 3)),
            parallel.replicate(state, jax.local_devices()),
            device_data(dataset),
            trainer.settings,
            first_step=first_step,
            num_steps=first_step if is_over else trainer.num_steps,
            report=watch.report,
            save=lambda step, state: checkpoints.save(step, parallel.first(state)),
            seconds_per_save=seconds_per_save,
            should_stop=should_stop,
            epoch_steps=training.epoch_steps,
            after_epoch=watch.after_epoch,
        )
        if validation is not None:
            say(console, validation.describe_best())
            processes.on_first(lambda: validation.draw(folder))
    return Run(folder, *resolved, parallel.first(replicated))


class Watch:
    """What a run says of itself while it trains: to the log, to the terminal, to its validation.

    Args:
      training: what the run does.
      log: of the run.
      checkpoints: of the run; a loss that is not finite is refused with what they keep.
      validation: of the images held out, if there are any.
      console, bars: where progress goes.
    """

    def __init__(
        self,
        training: ResolvedTraining,
        log: TrainingLog,
        checkpoints: Checkpoints,
        validation: Validation | None,
        console: Console,
        bars: Progress,
    ) -> None:
        self._training, self._log, self._checkpoints = training, log, checkpoints
        self._validation, self._console, self._bars = validation, console, bars
        self._reported = time.monotonic()

    def begin(self, step: int, *, is_over: bool) -> None:
        """Training goes on from a step, unless nothing is left of it."""
        total = self._training.num_steps
        self._task = self._bars.add_task("steps", total=total, completed=step, note="")
        if is_over:
            self._say_over(step)
        elif step < total:
            say(self._console, epoch_header(is_validated=self._validation is not None))
        self._reported = time.monotonic()

    def report(self, step: int, metrics: Metrics) -> None:
        """A call's metrics: checked, written to the log, and shown."""
        saved = self._checkpoints.latest
        kept = f"the checkpoint of step {saved} is kept." if saved else "there is no checkpoint."
        check_finite(metrics, f"try a lower learning rate or a smaller curvature; {kept}")
        first: Metrics = jax.tree.map(lambda leaf: leaf[0], metrics)
        count, now = int(first.num_steps), time.monotonic()
        rate = count * self._training.config.batch_size / max(now - self._reported, 1e-9)
        loss, accuracy = float(first.loss) / count, float(first.accuracy) / count
        line = TrainingLine(step, step / self._training.epoch_steps, loss, accuracy, rate)
        self._log.add(line, is_written=processes.is_first())
        note = f"loss {loss:.3f}, accuracy {accuracy:.3f}, {rate:,.0f} images/s"
        self._bars.update(self._task, completed=step, note=note)
        self._reported = now

    def after_epoch(self, step: int, state: TrainState) -> bool:
        """Validate where that is due, show a line; whether patience is at its end."""
        epoch, measured = step // self._training.epoch_steps, None
        if self._validation is not None and self._validation.is_due(epoch):
            measured = self._validation.measure(step, parallel.first(state))
        is_validated = self._validation is not None
        say(self._console, epoch_line(self._row(step, measured), is_validated=is_validated))
        is_over = self._validation is not None and self._validation.is_over(step)
        if is_over:
            self._say_over(step)
        self._reported = time.monotonic()
        return is_over

    def _row(self, step: int, measured: ValidationLine | None) -> EpochRow:
        training, epoch = self._training, step // self._training.epoch_steps
        mean = self._log.epoch(epoch, training.epoch_steps, training.config.batch_size)
        rate = training.learning_rate * float(training.schedule(jnp.asarray(step - 1)))
        return EpochRow(
            epoch,
            training.epochs,
            mean.loss,
            mean.accuracy,
            rate,
            mean.seconds,
            mean.images_per_second,
            None if measured is None else measured.validation_clean,
            None if measured is None else measured.validation_robust,
        )

    def _say_over(self, step: int) -> None:
        assert self._validation is not None
        epoch = step // self._training.epoch_steps
        say(
            self._console,
            f"Training ended after epoch {epoch} of {self._training.epochs}: robust accuracy on "
            f"the images held out is no better than after epoch {self._validation.best_epoch}.",
        )
