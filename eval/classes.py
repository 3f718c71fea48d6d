"""A network and its images restricted to some of the classes."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rctaf_jax.batching import Images, Labels
from rctaf_jax.errors import InputError


def of_classes(
    logits_fn: Callable[..., Float[Array, "B C"]],
    images: Images,
    labels: Labels,
    classes: Sequence[int],
) -> tuple[Callable[..., Float[Array, "B K"]], Images, Int[np.ndarray, " n"]]:
    """The logits of some classes only, and the images of these.

    Masks such as -inf would make attacks' losses meaningless; left out, the other classes can
    neither be attacked nor be an answer.

    Args:
      logits_fn: images and whatever else it takes, to logits of C classes.
      images: N images.
      labels: N class indices below C.
      classes: K >= 2 of them, in the order of the new logits.

    Returns:
      A function to K logits, the n images whose labels are among the classes, and their new labels,
      0 to K - 1.

    Raises:
      InputError: if a class is no index or is given twice, there are fewer than two, or no image
        is left.

    Example:
      >>> logits_fn, images, labels = of_classes(
      ...     lambda x: x.reshape(-1, 3), np.eye(3).reshape(3, 1, 3, 1), np.arange(3), [2, 0])
      >>> labels.tolist(), logits_fn(images).tolist()
      ([1, 0], [[0.0, 1.0], [1.0, 0.0]])
    """
    chosen = [int(one) for one in classes]
    if len(set(chosen)) < len(chosen) or len(chosen) < 2 or min(chosen) < 0:
        raise InputError(f"classes is {list(classes)}: expected two or more indices, each once")
    places = np.full(max(max(chosen), int(np.max(labels))) + 1, -1)
    places[chosen] = np.arange(len(chosen))
    found = places[np.asarray(labels)]
    if not (found >= 0).any():
        raise InputError(f"no image has a label among the classes {chosen}")
    index = np.array(chosen)

    def restricted(images: Images, *rest: Array) -> Array:
        logits = logits_fn(images, *rest)
        if logits.shape[-1] <= max(chosen):
            raise InputError(
                f"classes is {chosen}: the network has classes 0 to {logits.shape[-1] - 1}"
            )
        return jnp.take(logits, index, axis=-1)

    return restricted, images[found >= 0], found[found >= 0]
