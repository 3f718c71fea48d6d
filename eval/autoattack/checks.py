"""What makes a robust accuracy doubtful, looked for before an attack and after it.

Each check returns a sentence, or None where nothing was found. None of them stops an attack.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.aliases import Predict
from rctaf_jax.losses import cross_entropy

Warning_ = str | None

NUM_PASSES = 5
MASKING_GAP = 0.002


class AutoAttackWarning(UserWarning):
    """A robust accuracy that may not mean what it seems to."""


def returns_probabilities(logits: Float[np.ndarray, "N C"]) -> Warning_:
    """Rows between 0 and 1 that sum to 1 look like probabilities, whose losses have no gradient."""
    within = logits.max() < 1 + 1e-5 and logits.min() > -1e-5
    if within and np.abs(logits.sum(axis=1) - 1).max() < 1e-5:
        return (
            "the network seems to return probabilities: its outputs lie between 0 and 1 and sum "
            "to 1; the attacks need logits."
        )
    return None


def is_randomised(
    logits_fn: Predict, images: Float[Array, "B H W C"], labels: Int[Array, " B"]
) -> Warning_:
    """Five answers to the same images differ, in accuracy or by more than 1e-4 when normalised.

    The function is called as it is, not compiled, which would freeze its random numbers.
    """
    answers = [np.asarray(logits_fn(images), np.float64) for _ in range(NUM_PASSES)]
    correct = {int((answer.argmax(1) == np.asarray(labels)).sum()) for answer in answers}
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12) for a in answers]
    distance = max(float(np.linalg.norm(unit[0] - u, axis=1).max()) for u in unit)
    if len(correct) > 1 or distance > 1e-4:
        return (
            f"the network seems to be randomised: {NUM_PASSES} answers to the same images differ "
            f"by up to {distance:.1e}; version 'rand' averages over its random numbers."
        )
    return None


def has_zero_gradients(
    logits_fn: Predict, images: Float[Array, "B H W C"], labels: Int[Array, " B"]
) -> Warning_:
    """The cross-entropy's gradient at a clean image is zero in every pixel."""

    @jax.jit
    def is_zero(images: Array, labels: Array) -> Array:
        gradient = jax.grad(lambda x: cross_entropy(logits_fn(x), labels).sum())(images)
        return jnp.all(gradient == 0, axis=(1, 2, 3))

    num_zero = int(np.sum(is_zero(images, labels)))
    if not num_zero:
        return None
    return (
        f"the gradient of the cross-entropy is zero at {num_zero} of {len(images)} clean images: "
        "gradient-based attacks may fail there without the network being robust."
    )


def masks_gradients(broken: Mapping[str, Bool[np.ndarray, " N"]]) -> Warning_:
    """Square, which needs no gradient, breaks more than 0.2% of the images, and no other does.

    Args:
      broken: which of all images each attack broke.
    """
    others = [flags for name, flags in broken.items() if name != "square"]
    if "square" not in broken or not others:
        return None
    gap = float(np.mean(broken["square"] & ~np.logical_or.reduce(others)))
    if gap <= MASKING_GAP:
        return None
    return (
        f"Square lowers robust accuracy by {gap:.1%} below the gradient-based attacks: the "
        "network may mask its gradients, so stronger attacks than these may break more."
    )


def differs_again(num_different: int) -> Warning_:
    """Some returned images are classified otherwise when the network sees them once more."""
    if not num_different:
        return None
    return (
        f"{num_different} adversarial images are classified correctly when evaluated again: the "
        "network's answers depend on the batch they are given in."
    )
