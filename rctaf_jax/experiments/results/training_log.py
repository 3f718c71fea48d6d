"""metrics.jsonl: how training went, a line for each call of the compiled program.

With a validation, lines with keys of their own say what it found.

A run that goes on from a checkpoint drops what the log says of later steps, and writes it anew:
each step is in one line.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rctaf_jax.errors import InputError
from rctaf_jax.files import append_line, write_text_atomic
from rctaf_jax.typed_json import AtLeast1, NotNegative, Positive, convert_typed


@dataclasses.dataclass(frozen=True)
class TrainingLine:
    """Means over the steps since the last such line, up to `step`."""

    step: AtLeast1
    epoch: NotNegative
    loss: float
    accuracy: NotNegative
    images_per_second: Positive


@dataclasses.dataclass(frozen=True)
class ValidationLine:
    """Accuracies after `step` on the images held out, clean and under attack."""

    step: AtLeast1
    epoch: NotNegative
    validation_clean: NotNegative
    validation_robust: NotNegative
    validation_examples: AtLeast1
    validation_seconds: NotNegative


Line = TrainingLine | ValidationLine


class EpochMean(NamedTuple):
    """Means over an epoch's steps, the epoch from 1, and the time that its images took."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float
    images_per_second: float


class TrainingLog:
    """The log of one run.

    Args:
      path: of metrics.jsonl, which need not be there.
      step: from which training goes on; later lines are left out.

    Attributes:
      training, validation: the lines so far, by kind.

    Raises:
      InputError: if the file is damaged.
    """

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._lines = [line for line in read_log(path) if line.step <= step]
        self.training = [line for line in self._lines if isinstance(line, TrainingLine)]
        self.validation = [line for line in self._lines if isinstance(line, ValidationLine)]

    def restart(self) -> None:
        """Write the file without the lines that were left out."""
        text = "".join(f"{_as_text(line)}\n" for line in self._lines)
        if self._path.is_file() and self._path.read_text(encoding="utf-8") != text:
            write_text_atomic(self._path, text)

    def add(self, line: Line, *, is_written: bool) -> None:
        """Add a line; one process of several writes it."""
        self._lines.append(line)
        if isinstance(line, TrainingLine):
            self.training.append(line)
        else:
            self.validation.append(line)
        if is_written:
            append_line(self._path, _as_text(line))

    def epoch(self, epoch: int, epoch_steps: int, batch_size: int) -> EpochMean:
        """An epoch's means, the epoch from 1."""
        first_step = (epoch - 1) * epoch_steps
        late = itertools.takewhile(lambda line: line.step > first_step, reversed(self.training))
        return epoch_means([*late][::-1], first_step, epoch_steps, batch_size)[0]


def read_log(path: Path) -> list[Line]:
    """The lines of a log; none if it is not there.

    Raises:
      InputError: naming the file and the line that is damaged.
    """
    if not path.is_file():
        return []
    lines: list[Line] = []
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        where = f"line {number} of {path}"
        try:
            value = json.loads(text)
        except ValueError:
            raise InputError(f"{where} is damaged: move the file aside to go on.") from None
        is_validation = isinstance(value, dict) and "validation_robust" in value
        kind: Any = ValidationLine if is_validation else TrainingLine
        lines.append(convert_typed(value, kind, where))
    return lines


def epoch_means(
    lines: Sequence[TrainingLine], first_step: int, epoch_steps: int, batch_size: int
) -> list[EpochMean]:
    """Means over each epoch's steps.

    Args:
      lines: in order of their steps; each belongs to the epoch in which it ends.
      first_step: after which the first of them begins.
      epoch_steps: steps of an epoch.
      batch_size: images of a step.

    Example:
      >>> half = TrainingLine(2, 0.5, loss=3.0, accuracy=0.2, images_per_second=10.0)
      >>> rest = TrainingLine(3, 1.0, loss=6.0, accuracy=0.5, images_per_second=5.0)
      >>> epoch_means([half, rest], 0, 3, 10)
      [EpochMean(epoch=1, loss=4.0, accuracy=0.3, seconds=4.0, images_per_second=7.5)]
    """
    starts = [first_step, *(line.step for line in lines)]
    counted = [(line.step - start, line) for start, line in zip(starts, lines, strict=False)]
    means = []
    for epoch, group in itertools.groupby(counted, lambda pair: -(-pair[1].step // epoch_steps)):
        pairs = [*group]
        total = sum(count for count, _ in pairs)
        loss = sum(count * line.loss for count, line in pairs) / total
        accuracy = sum(count * line.accuracy for count, line in pairs) / total
        seconds = sum(count * batch_size / line.images_per_second for count, line in pairs)
        means.append(EpochMean(epoch, loss, accuracy, seconds, total * batch_size / seconds))
    return means


def _as_text(line: Line) -> str:
    return json.dumps(dataclasses.asdict(line))
