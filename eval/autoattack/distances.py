"""How far the nearest misclassified image is, as FAB finds it: an upper bound for each image."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rctaf_jax.aliases import Logits, Pixels
from rctaf_jax.batching import Images, Labels, PaddedBatch, Progress, over_batches, pixels
from rctaf_jax.closed_over import Lifted
from rctaf_jax.errors import InputError
from rctaf_jax.eval.verdict import judge_logits
from rctaf_jax.threat_model import norm_named

from .attack import Examples, choose
from .fab import FABState, towards_ranked, walk
from .inputs import check_outputs, checked_examples


class MinimalDistances(NamedTuple):
    """The nearest misclassified image of each of N that was found.

    Attributes:
      distance: to it, in the norm; 0 where the clean image is misclassified, infinite where no
          misclassified image was found.
      adversarial: that image, else the clean one.
      nonfinite: the clean image's logits are NaN or infinite; its distance is infinite.
    """

    distance: Float[np.ndarray, " N"]
    adversarial: Float[np.ndarray, "N H W C"]
    nonfinite: Bool[np.ndarray, " N"]

    def summary(self) -> str:
        """Quartiles of the distances."""
        low, middle, high = np.quantile(self.distance, (0.25, 0.5, 0.75), method="lower")
        missing = int(np.isinf(self.distance).sum())
        return (
            f"nearest misclassified image: median {middle:.6g}, quartiles {low:.6g} and {high:.6g}"
            + (f"; none found for {missing} of {len(self.distance)}" if missing else "")
        )


class _Nearest(NamedTuple):
    """The nearest misclassified image so far; the clean one at an infinite distance at first."""

    distance: Float[Array, " B"]
    image: Pixels


def minimal_distances(
    logits_fn: Callable[[Pixels], Logits],
    images: Images,
    labels: Labels,
    *,
    norm: str = "Linf",
    num_targets: int | None = None,
    num_steps: int = 100,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> MinimalDistances:
    """Distances by FAB-T (Croce & Hein 2020): a run of each wrong class, the nearest image kept.

    Nothing is drawn. The network is asked twice a step, and once for a gradient, in float32 at the
    highest matmul precision.

    Args:
      logits_fn: images [B, H, W, C] in [0, 1] to logits [B, classes], BatchNorm in inference mode.
      images: N images, uint8 or floating point in [0, 1].
      labels: N class indices.
      norm: `Linf`, `L2` or `L1`, of the distance.
      num_targets: how many wrong classes are aimed at, those with the largest clean logits first;
          9, or all where there are fewer, when left out.
      num_steps: of each run.
      batch_size: images at a time.
      progress: called with the number of images done and N.

    Raises:
      InputError: if an argument is not allowed.

    Example:
      >>> images = np.array([[0.2, 0.8], [0.9, 0.1]], np.float32).reshape(2, 1, 1, 2)
      >>> found = minimal_distances(lambda x: x.reshape(-1, 2), images, np.array([1, 1]))
      >>> print(found.distance.round(2))
      [0.3 0. ]
    """
    norm_named(norm)
    images, labels = checked_examples(images, labels)
    x = np.asarray(pixels(images), np.float32)
    no_keys = jax.random.split(jax.random.key(0), 1)
    ask = Lifted(lambda _, images: logits_fn(images).astype(jnp.float32))
    num_classes = check_outputs(lambda _, x, __: logits_fn(x), (), x, no_keys, np.asarray(labels))
    most = num_classes - 1
    targets = min(9, most) if num_targets is None else num_targets
    if not 1 <= targets <= most or num_steps < 1:
        raise InputError(
            f"got num_targets {num_targets} and num_steps {num_steps}: expected 1 to {most} wrong "
            "classes and at least 1 step"
        )

    begin, advance = _make_programs(ask, norm)

    def on_batch(batch: PaddedBatch) -> tuple[Array, Array, Array]:
        given = ask.with_arrays((), batch.images)
        examples, state = begin(given, batch)
        for number in range(targets):
            run = jnp.full(len(batch.labels), number, jnp.int32)
            state = FABState(examples.images, run, state.outcome)
            for step in range(num_steps):
                state = advance(given, examples, jnp.full_like(run, step), state)
        verdict = judge_logits(examples.clean_logits, examples.labels)
        best = state.outcome
        distance = jnp.where(verdict.nonfinite, jnp.inf, best.distance)
        return distance, best.image, verdict.nonfinite

    return MinimalDistances(
        *over_batches(
            on_batch, x, labels, batch_size=min(batch_size, len(labels)), progress=progress
        )
    )


def _make_programs(ask: Lifted, norm: str) -> tuple[Callable[..., Any], Callable[..., FABState]]:
    """The state before the first run, and a step, which the host repeats.

    In a loop of XLA:CPU's own, convolutions are several times slower.
    """
    length = norm_named(norm).length

    @jax.jit
    def begin(given: tuple, batch: PaddedBatch) -> tuple[Examples, FABState]:
        with jax.default_matmul_precision("highest"):
            logits = ask(given, batch.images)
        run = jnp.zeros(len(batch.labels), jnp.int32)
        keys = jax.random.split(jax.random.key(0), len(batch.labels))
        nowhere = _Nearest(jnp.full(len(run), jnp.inf, batch.images.dtype), batch.images)
        examples = Examples(batch.images, batch.labels.astype(jnp.int32), keys, logits)
        return examples, FABState(batch.images, run, nowhere)

    @jax.jit
    def advance(given: tuple, examples: Examples, k: Array, state: FABState) -> FABState:
        def nearer(best: _Nearest, x: Pixels, logits: Logits) -> _Nearest:
            verdict = judge_logits(logits, examples.labels)
            distance = length(x - examples.images)
            is_better = ~verdict.correct & ~verdict.nonfinite & (distance < best.distance)
            return choose(is_better, _Nearest(distance, x), best)

        def predict(images: Pixels, _: Array) -> Logits:
            return ask(given, images)

        with jax.default_matmul_precision("highest"):
            return walk(towards_ranked, norm, nearer, predict, examples, k, state)

    return begin, advance
