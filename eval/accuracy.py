"""Clean accuracy, and the interval that belongs to every accuracy.

With s successes in n trials, p = s / n and z the normal quantile, Wilson's interval is

    ( p + z^2 / 2n  -+  z sqrt( p (1 - p) / n + z^2 / 4n^2 ) ) / ( 1 + z^2 / n ).
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool

from rctaf_jax.batching import Images, Labels, PaddedBatch, Progress, over_batches, pixels
from rctaf_jax.closed_over import Lifted
from rctaf_jax.errors import InputError

from .verdict import ImageVerdict, LogitsFn, NetworkVariables, judge_logits


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class CleanEvaluation(NamedTuple):
    """How a network does on each clean example.

    Attributes:
      correct: logits are finite and the label's is the largest.
      nonfinite: some logit is NaN or infinite; such an example is not correct.
    """

    correct: Bool[np.ndarray, " N"]
    nonfinite: Bool[np.ndarray, " N"]

    def summary(self) -> str:
        """The accuracy with its interval."""
        return share_line("clean", int(self.correct.sum()), len(self.correct))


def share_line(name: str, successes: int, total: int) -> str:
    """An accuracy in words, with Wilson's 95% interval.

    Example:
      >>> share_line("robust", 80, 100)
      'robust: 80.00% (71.12 to 86.66), 80 of 100'
    """
    if not total:
        return f"{name}: no example"
    low, high = wilson_interval(successes, total)
    share = f"{successes / total:.2%} ({100 * low:.2f} to {100 * high:.2f})"
    return f"{name}: {share}, {successes:,} of {total:,}"


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's confidence interval for a proportion, such as an accuracy over a test set.

    It covers as promised near 0 and 1 too, where the normal interval shrinks to a point. It speaks
    of new examples from the same source for this one network, not of new training runs.

    Args:
      successes: 0 to total.
      total: number of independent examples, at least 1.
      confidence: between 0 and 1.

    Raises:
      InputError: if an argument is out of its range.

    Example:
      >>> print("{:.4f} {:.4f}".format(*wilson_interval(80, 100)))
      0.7112 0.8666
    """
    if not 0 <= successes <= total or total < 1:
        raise InputError(
            f"got {successes} successes of {total}: expected 0 to total, and a total of at least 1"
        )
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, shrink = successes / total, 1 + z**2 / total
    centre = p + z**2 / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    # At the ends the formula gives 0 and 1 exactly; rounding does not.
    low = 0.0 if successes == 0 else (centre - half) / shrink
    high = 1.0 if successes == total else (centre + half) / shrink
    return Interval(low, high)


def make_clean_evaluation(
    logits_fn: LogitsFn, *, batch_size: int
) -> Callable[..., CleanEvaluation]:
    """Makes a function that evaluates networks of one structure, compiled once for all of them.

    Args:
      logits_fn: `logits_fn(variables, images)`, with BatchNorm in inference mode.
      batch_size: examples at a time; the last batch is padded to it.

    Returns:
      `evaluate(variables, images, labels, progress=None)` to a `CleanEvaluation`; images are
      uint8, scaled on the device, or floating point in [0, 1]. It raises `InputError` if
      images or labels are not allowed.

    Example:
      >>> evaluate = make_clean_evaluation(lambda v, x: x.reshape(-1, 2) * v, batch_size=2)
      >>> images = np.array([[0, 255], [255, 0], [0, 9]], np.uint8).reshape(3, 1, 1, 2)
      >>> evaluate(1.0, images, np.array([1, 1, 1])).correct.tolist()
      [True, False, True]
    """

    ask = Lifted(logits_fn)

    @jax.jit
    def judge(given: tuple, batch: PaddedBatch) -> ImageVerdict:
        with jax.default_matmul_precision("highest"):
            return judge_logits(ask(given, pixels(batch.images)), batch.labels)

    def on_batch(variables: NetworkVariables, batch: PaddedBatch) -> ImageVerdict:
        given = ask.with_arrays(variables, jax.eval_shape(pixels, batch.images))
        return judge(given, batch)

    def evaluate(
        variables: NetworkVariables,
        images: Images,
        labels: Labels,
        progress: Progress | None = None,
    ) -> CleanEvaluation:
        verdict = over_batches(
            lambda batch: on_batch(variables, batch),
            images,
            labels,
            batch_size=batch_size,
            progress=progress,
        )
        return CleanEvaluation(*verdict)

    return evaluate
