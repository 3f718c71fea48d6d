"""A dataset in batches of one shape, so that one compiled program serves all of them.

The last batch is filled up with copies of example 0, which are marked, and whose results are cut
off again or weighted by 0.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from rctaf_jax.errors import InputError

Images = Num[np.ndarray, "N H W C"] | Num[Array, "N H W C"]
Labels = Int[np.ndarray, " N"] | Int[Array, " N"]
Progress = Callable[[int, int], None]


class PaddedBatch(NamedTuple):
    """Examples of a dataset, B of them.

    Attributes:
      images: uint8, or floating point in [0, 1].
      labels: class indices.
      position: where the examples are in the dataset.
      is_real: false for the copies of example 0 that fill up the last batch.
    """

    images: Num[Array, "B H W C"]
    labels: Int[Array, " B"]
    position: Int[Array, " B"]
    is_real: Bool[Array, " B"]


def pixels(images: Num[Array, "*shape"] | Num[np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Pixels in [0, 1]: uint8 divided by 255, floating point as it is.

    Exactly rounded: XLA divides by a constant by multiplying with its rounded reciprocal, and half
    of the 256 quotients would miss the nearest float32, and distances to them with it. A table
    would be exact too, but looking up every pixel is slow on a TPU.

    Example:
      >>> print(pixels(jnp.array([0, 51, 255], jnp.uint8)))
      [0.  0.2 1. ]
    """
    images = jnp.asarray(images)
    if images.dtype != jnp.uint8:
        return images
    x = images.astype(jnp.result_type(float))
    # 1/255 = 1/256 + 1/(255 * 256): the first product is exact, and all 256 sums round rightly,
    # fused with the second product or not. The barrier keeps XLA from taking x out of the sum.
    small = jax.lax.optimization_barrier(x) * (1 / 65280)
    return x * (1 / 256) + small


def padded_batches(images: Images, labels: Labels, *, batch_size: int) -> Iterator[PaddedBatch]:
    """Cuts a dataset into batches of exactly `batch_size` examples, in order.

    Args:
      images: N images, uint8 or floating point in [0, 1].
      labels: N class indices.
      batch_size: examples in every batch, at least 1.

    Raises:
      InputError: if there is no image, or a shape, a type or a pixel is not allowed.

    Example:
      >>> batches = padded_batches(np.zeros((3, 1, 1, 1)), np.arange(3), batch_size=2)
      >>> [(batch.labels.tolist(), batch.is_real.tolist()) for batch in batches]
      [([0, 1], [True, True]), ([2, 0], [True, False])]
    """
    check_examples(images, labels)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    return _cut(images, labels, batch_size)


def _cut(images: Images, labels: Labels, batch_size: int) -> Iterator[PaddedBatch]:
    num_examples = len(labels)
    for first in range(0, num_examples, batch_size):
        position = np.arange(first, first + batch_size, dtype=np.int32)
        is_real = position < num_examples
        position = np.where(is_real, position, 0)
        yield PaddedBatch(
            *map(jnp.asarray, (images[position], labels[position], position, is_real))
        )


def fit_batch(batch_size: int, num_examples: int, multiple: int = 1) -> int:
    """The smallest batches that cut a dataset into no more pieces: the least is filled up.

    Args:
      batch_size: the most examples in a batch, a multiple of `multiple`.
      num_examples: of the dataset.
      multiple: what shares a batch, such as devices.

    Example:
      >>> fit_batch(500, 360), fit_batch(512, 1437), fit_batch(512, 7, multiple=4)
      (360, 479, 8)
    """
    pieces = max(-(-num_examples // batch_size), 1)
    each = max(-(-num_examples // pieces), 1)
    return min(-(-each // multiple) * multiple, batch_size)


def over_batches(
    function: Callable[[PaddedBatch], PyTree],
    images: Images,
    labels: Labels,
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> PyTree:
    """Runs a compiled function over a dataset and puts its results together.

    A batch is started before the results of the one before it are awaited, so the device never
    waits for the host.

    Args:
      function: of a batch, to arrays whose first axis is the batch's.
      images: N images, uint8 or floating point in [0, 1].
      labels: N class indices.
      batch_size: examples that `function` sees at a time.
      progress: called with the number of examples done and N after each batch.

    Returns:
      What `function` returns, with first axis N, as numpy arrays.

    Raises:
      InputError: as `padded_batches` does.
    """
    results, num_examples = [], len(labels)
    pending: PyTree = None
    for number, batch in enumerate(padded_batches(images, labels, batch_size=batch_size)):
        started = function(batch)
        if number:
            results.append(jax.device_get(pending))
            if progress is not None:
                progress(number * batch_size, num_examples)
        pending = started
    results.append(jax.device_get(pending))
    if progress is not None:
        progress(num_examples, num_examples)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:num_examples], *results)


def check_examples(images: Images, labels: Labels) -> None:
    """Checks that images and labels belong together and that pixels are in their range.

    Raises:
      InputError: if they are not N images [N, H, W, C], N >= 1, of uint8 or of floating point
          in [0, 1], and N integer labels.
    """
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
        raise InputError(
            f"got images of shape {images.shape} and labels of shape {labels.shape}: expected "
            "[N, H, W, C] and [N] with N of at least 1"
        )
    _, rows, columns, last = images.shape
    if rows in (1, 3) and columns == last > 4:
        raise InputError(
            f"got images of shape {images.shape}: expected [N, H, W, C]; these look like PyTorch's "
            "[N, C, H, W]: transpose(0, 2, 3, 1), and let the network take them so"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"got labels of type {labels.dtype}: expected integers")
    if images.dtype == np.uint8:
        return
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"got images of type {images.dtype}: expected uint8, or floating point in [0, 1]"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise InputError(f"got pixels from {low} to {high}: floating-point images are in [0, 1]")
