"""Checks worth their seconds before a run of hours: is there a Hessian to estimate at all?"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax.batching import Images, Labels, check_examples, pixels
from rctaf_jax.errors import InputError

from .products import LossFn, Params, Rest


def check_deterministic(gradient: Callable[[], Params], *, tolerance: float = 1e-4) -> None:
    """Checks that the same gradient comes out twice.

    Data in a random order, dropout or augmentation make every product that of another Hessian,
    and no number of probes averages that away.

    Args:
      gradient: evaluates the gradient over the whole dataset, as the products will.
      tolerance: allowed relative L2 distance of the two; sums on a GPU may differ in rounding.

    Raises:
      InputError: if the gradient is not finite, or the two differ by more.

    Example:
      >>> check_deterministic(lambda: {"w": jnp.ones(3)})
    """
    first, second = _flat(gradient()), _flat(gradient())
    if not np.isfinite(first).all():
        raise InputError("the gradient is not finite: the Hessian needs finite losses")
    distance = float(np.linalg.norm(first - second))
    if not distance <= tolerance * np.linalg.norm(first):
        raise InputError(
            f"two evaluations of one gradient are {distance:.3g} apart, of norm "
            f"{np.linalg.norm(first):.3g}: expected the same data and no randomness in the network"
        )


def check_independent(
    loss_fn: LossFn,
    params: Params,
    rest: Rest,
    images: Images,
    labels: Labels,
    *,
    tolerance: float = 1e-3,
) -> None:
    """Checks that an example's loss does not depend on the rest of its batch.

    It compares the first example's loss among the others with its loss among copies of itself,
    and the copies' losses with one another.

    Args:
      loss_fn: per-example losses, as for `make_dataset_product`.
      params: the parameters.
      rest: what else the network needs.
      images: a few images (eight will do) that are not all the same.
      labels: their labels.
      tolerance: allowed difference, relative to 1 + |loss|.

    Raises:
      InputError: if a loss is not finite, if the two losses differ, as they do with BatchNorm in
          training mode, or the copies' losses, as they do with dropout.
    """
    check_examples(images, labels)
    losses = jax.jit(lambda x, y: loss_fn(params, rest, pixels(x), y))
    among_others = float(losses(images, labels)[0])
    copies = jnp.zeros(len(labels), int)
    of_copies = np.asarray(losses(images[copies], labels[copies]))
    among_copies = float(of_copies[0])
    if not (np.isfinite(of_copies).all() and math.isfinite(among_others)):
        raise InputError("the losses are not finite: the Hessian needs finite losses")
    spread = float(np.ptp(of_copies))
    if not spread <= tolerance * (1 + abs(among_copies)):
        raise InputError(
            f"copies of one example have losses that are {spread:.3g} apart: a loss must not "
            "depend on the place in the batch, so turn dropout off"
        )
    if not abs(among_others - among_copies) <= tolerance * (1 + abs(among_copies)):
        raise InputError(
            f"an example's loss is {among_others:.6g} among others and {among_copies:.6g} among "
            "copies of itself: examples must not interact, so use BatchNorm in inference mode"
        )


def _flat(tree: Params) -> np.ndarray:
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])
