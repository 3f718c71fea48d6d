"""A run measured while it trains, on the training images that it holds out.

Accuracies go to metrics.jsonl, the best network to best/checkpoints, a picture to training.png.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np

from rctaf_jax import parallel, processes
from rctaf_jax.batching import fit_batch
from rctaf_jax.config import EvaluationConfig
from rctaf_jax.experiments.results.training_log import TrainingLog, ValidationLine, epoch_means
from rctaf_jax.extras import missing
from rctaf_jax.training.best import BestCheckpoint
from rctaf_jax.training.state import TrainState

from .folder import ResolvedRun
from .measure import describe_attack, make_evaluate, make_logits

ATTACK = EvaluationConfig(pgd_steps=10)
"""Cheap: a network is measured sharply once, at the end."""


class Validation:
    """Clean and robust accuracy by epoch, the best network, and when patience is at its end.

    Args:
      run: with images held out.
      log: to which accuracies are added.
      best: where the best network is kept.
    """

    def __init__(self, run: ResolvedRun, log: TrainingLog, best: BestCheckpoint) -> None:
        assert run.validation is not None
        config, train, self._images = run.config.validation, run.config.train, run.validation
        self._every, self._patience = config.every or 1, config.patience
        self._training, self._log, self._best = run.training, log, best
        size = fit_batch(ATTACK.batch_size, len(self._images.labels))
        logits = make_logits(train, run.activation, run.dataset.num_classes)
        attack = dataclasses.replace(ATTACK, batch_size=size)
        self._evaluate = make_evaluate(attack, logits, train.norm, train.epsilon)

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, after which the best network was kept."""
        return self._best.step // self._training.epoch_steps

    def is_due(self, epoch: int) -> bool:
        """Whether the network is measured after an epoch; after the last one it always is."""
        return epoch % self._every == 0 or epoch == self._training.epochs

    def is_over(self, step: int) -> bool:
        """Whether patience ends training at a step, whose epoch has been measured if it is due."""
        epoch, rest = divmod(step, self._training.epoch_steps)
        if rest or self._patience is None or not self.is_due(epoch):
            return False
        return epoch - self.best_epoch >= self._patience

    def measure(self, step: int, state: TrainState) -> ValidationLine:
        """Measure a network of host arrays, keep it if it is the best, and add a line to the log.

        The best is whole before the line says so, and both before training is saved any further.
        """
        started = time.monotonic()
        outcomes = self._evaluate(state.final_variables, self._images)
        counts = np.asarray([outcomes.clean_correct.sum(), outcomes.robust.sum()], np.int32)
        clean, robust = parallel.gather_processes(counts)[0].tolist()  # all decide alike
        self._best.offer(state, robust)
        total = len(self._images.labels)
        line = ValidationLine(
            step,
            step / self._training.epoch_steps,
            clean / total,
            robust / total,
            total,
            time.monotonic() - started,
        )
        self._log.add(line, is_written=processes.is_first())
        return line

    def describe_best(self) -> str:
        """Which network was kept, in a sentence."""
        share = self._best.num_robust / len(self._images.labels)
        return (
            f"Best on the {len(self._images.labels):,} images held out: epoch {self.best_epoch}, "
            f"{share:.2%} robust under {describe_attack(ATTACK)}. rctaf evaluate takes it "
            "with --checkpoint best."
        )

    def draw(self, folder: Path) -> None:
        """Write training.png and training.svg, where matplotlib is installed."""
        if missing(["matplotlib"]):
            return
        from rctaf_jax.experiments.show.plotting import save_figure
        from rctaf_jax.experiments.show.training_figure import ValidatedEpoch, training_figure

        training = self._training
        size = training.config.batch_size
        means = epoch_means(self._log.training, 0, training.epoch_steps, size)
        figure = training_figure(
            [(mean.epoch, mean.loss) for mean in means],
            [
                ValidatedEpoch(round(line.epoch), line.validation_clean, line.validation_robust)
                for line in self._log.validation
            ],
            best_epoch=self.best_epoch,
            attack=describe_attack(ATTACK),
        )
        save_figure(figure, folder / "training")
