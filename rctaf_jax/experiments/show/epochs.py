"""Training on the terminal: a line an epoch, in columns that fit 80 characters."""

from typing import NamedTuple


class EpochRow(NamedTuple):
    """What is shown of an epoch.

    Attributes:
      epoch, num_epochs: just done, from 1, and those of the run.
      loss, accuracy: means over the epoch's batches.
      learning_rate: of its last step.
      seconds, images_per_second: of training alone.
    """

    epoch: int
    num_epochs: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float


HEADER = "    epoch       loss  train %       rate   seconds   images/s"


def epoch_line(row: EpochRow) -> str:
    """The row below `HEADER`.

    >>> print(HEADER)
        epoch       loss  train %       rate   seconds   images/s
    >>> print(epoch_line(EpochRow(9, 20, 1.23456, 0.5, 0.1, 12.345, 4321.0)))
         9/20      1.235    50.00        0.1      12.3      4,321
    """
    done = f"{row.epoch}/{row.num_epochs}"
    cells = (
        f"{done:>9}",
        f"{row.loss:9.4g}",
        f"{100 * row.accuracy:7.2f}",
        f"{row.learning_rate:9.3g}",
        f"{row.seconds:8.1f}",
        f"{row.images_per_second:9,.0f}",
    )
    return "  ".join(cells)
