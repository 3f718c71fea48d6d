"""Training on the terminal: a line an epoch, in columns that fit 80 characters."""

from typing import NamedTuple


class EpochRow(NamedTuple):
    """What is shown of an epoch.

    Attributes:
      epoch, num_epochs: just done, from 1, and those of the run.
      loss, accuracy: means over the epoch's batches.
      learning_rate: of its last step.
      seconds, images_per_second: of training alone.
      clean, robust: accuracies on the validation's images; None where they were not measured.
    """

    epoch: int
    num_epochs: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float
    clean: float | None = None
    robust: float | None = None


def epoch_header(*, is_validated: bool) -> str:
    """The columns' names."""
    validation = "  clean %  robust %" if is_validated else ""
    return f"    epoch       loss  train %{validation}       rate   seconds   images/s"


def epoch_line(row: EpochRow, *, is_validated: bool) -> str:
    """The row below its header; empty cells where an epoch was not validated.

    >>> print(epoch_header(is_validated=True))
        epoch       loss  train %  clean %  robust %       rate   seconds   images/s
    >>> row = EpochRow(9, 20, 1.23456, 0.5, 0.1, 12.345, 4321.0, clean=0.5, robust=0.25)
    >>> print(epoch_line(row, is_validated=True))
         9/20      1.235    50.00    50.00     25.00        0.1      12.3      4,321
    """
    done = f"{row.epoch}/{row.num_epochs}"
    validation = (f"{_percent(row.clean):>7}", f"{_percent(row.robust):>8}")
    cells = (
        f"{done:>9}",
        f"{row.loss:9.4g}",
        f"{_percent(row.accuracy):>7}",
        *(validation if is_validated else ()),
        f"{row.learning_rate:9.3g}",
        f"{row.seconds:8.1f}",
        f"{row.images_per_second:9,.0f}",
    )
    return "  ".join(cells)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"
