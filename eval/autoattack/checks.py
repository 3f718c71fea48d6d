"""What makes a robust accuracy doubtful, looked for before an attack and after it.

Each check returns a sentence, or None where nothing was found. None of them stops an attack. Rows
of logits that are not finite say nothing of the others, and have a sentence of their own.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.aliases import Predict
from rctaf_jax.losses import unsaturated_cross_entropy

Warning_ = str | None

NUM_PASSES = 5
MASKING_GAP = 0.002
MASK = 1e30
"""Logits beyond are a mask on a class, such as `finfo.min`: losses over them underflow."""


class AutoAttackWarning(UserWarning):
    """A robust accuracy that may not mean what it seems to."""


def returns_probabilities(logits: Float[np.ndarray, "N C"], precision: float = 1e-7) -> Warning_:
    """Rows between 0 and 1 that sum to 1 look like probabilities, whose losses have no gradient.

    Args:
      logits: the network's answers.
      precision: machine epsilon of the type in which it gave them.
    """
    rows = _finite_rows(logits)
    slack = max(1e-5, logits.shape[1] * precision)
    if not len(rows) or rows.max() >= 1 + slack or rows.min() <= -slack:
        return None
    if np.abs(rows.sum(axis=1) - 1).max() >= slack:
        return None
    return (
        "the network seems to return probabilities: its outputs lie between 0 and 1 and sum "
        "to 1; the attacks need logits."
    )


def has_no_answers(nonfinite: int, total: int) -> Warning_:
    """Some images have logits that are NaN or infinite."""
    if not nonfinite:
        return None
    return (
        f"the logits of {nonfinite} of {total} images are not finite: they count as neither robust "
        "nor broken, and not as correct; a class that is masked by -inf makes all of them so."
    )


def masks_classes(logits: Float[np.ndarray, "N C"]) -> Warning_:
    """Logits as large as a mask on a class."""
    rows = _finite_rows(logits)
    num_masked = int((np.abs(rows) > MASK).any(axis=1).sum())
    if not num_masked:
        return None
    return (
        f"the logits of {num_masked} images reach {np.abs(rows).max():.1e}, as a class's mask "
        "does: gradients of apgd-t's and apgd-dlr's losses underflow where it is among the largest "
        "four; leave the class out, or mask it by -10,000."
    )


def is_huge_radius(norm: str, epsilon: float) -> Warning_:
    """A radius in Linf that allows every image."""
    if norm != "Linf" or epsilon < 1:
        return None
    return (
        f"epsilon is {epsilon:g} in Linf, where pixels lie in [0, 1], so every image is allowed: "
        f"{epsilon:g}/255 may be meant."
    )


def is_randomised(
    logits_fn: Predict, images: Float[Array, "B H W C"], labels: Int[Array, " B"]
) -> Warning_:
    """Five answers to the same images differ, in accuracy or by more than 1e-4 when normalised.

    The function is called as it is, not compiled, which would freeze its random numbers.
    """
    answers = [np.asarray(logits_fn(images), np.float64) for _ in range(NUM_PASSES)]
    is_finite = np.all([np.isfinite(answer).all(axis=1) for answer in answers], axis=0)
    if not is_finite.any():
        return None
    answers = [answer[is_finite] for answer in answers]
    correct = {int((answer.argmax(1) == np.asarray(labels)[is_finite]).sum()) for answer in answers}
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12) for a in answers]
    distance = max(float(np.linalg.norm(unit[0] - u, axis=1).max()) for u in unit)
    if len(correct) > 1 or distance > 1e-4:
        return (
            f"the network seems to be randomised: {NUM_PASSES} answers to the same images differ "
            f"by up to {distance:.1e}; version 'rand' averages over its random numbers."
        )
    return None


def make_zero_gradients(
    ask: Callable[..., Float[Array, "B classes"]],
) -> Callable[..., Bool[Array, " B"]]:
    """(variables, images, labels, keys) to whether the loss's gradient is zero in every pixel.

    Args:
      ask: (variables, images, keys) to logits.
    """

    @jax.jit
    def is_zero(variables: object, images: Array, labels: Array, keys: Array) -> Array:
        def loss(x: Array) -> Array:
            return unsaturated_cross_entropy(ask(variables, x, keys), labels).sum()

        return jnp.all(jax.grad(loss)(images) == 0, axis=(1, 2, 3))

    return is_zero


def has_zero_gradients(is_zero: Bool[np.ndarray, " B"]) -> Warning_:
    """The cross-entropy's gradient at a clean image is zero in every pixel."""
    num_zero = int(np.sum(is_zero))
    if not num_zero:
        return None
    return (
        f"the gradient of the cross-entropy is zero at {num_zero} of {len(is_zero)} clean images: "
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


def _finite_rows(logits: Float[np.ndarray, "N C"]) -> Float[np.ndarray, "n C"]:
    return logits[np.isfinite(logits).all(axis=1)]
