"""What counts: right, wrong or neither, and which adversarial images are allowed at all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.threat_model import TOLERANCE, ThreatModel, norm_named

NetworkVariables = Any
LogitsFn = Callable[[NetworkVariables, Float[Array, "B H W C"]], Float[Array, "B classes"]]


class ImageVerdict(NamedTuple):
    """One of three for each example: correct, misclassified, or not finite.

    Attributes:
      correct: all logits are finite and the label's is the largest (the first of equals).
      nonfinite: some logit is NaN or infinite, so the network gives no answer.
    """

    correct: Bool[Array, " B"]
    nonfinite: Bool[Array, " B"]


def judge_logits(logits: Float[Array, "B C"], labels: Int[Array, " B"]) -> ImageVerdict:
    """Compares logits with labels.

    Example:
      >>> logits = jnp.array([[0.0, 1.0], [jnp.nan, 1.0]])
      >>> judge_logits(logits, jnp.array([1, 1])).correct.tolist()
      [True, False]
    """
    finite = jnp.isfinite(logits).all(axis=-1)
    return ImageVerdict(finite & (jnp.argmax(logits, axis=-1) == labels), ~finite)


def require_allowed(
    adversarial: Float[np.ndarray, "N H W C"],
    images: Float[np.ndarray, "N H W C"],
    threat: ThreatModel,
) -> None:
    """Checks every image that an attack returned, in float64 on the host.

    Args:
      adversarial: what the attack returned.
      images: the clean images, in [0, 1].
      threat: the norm and the budget that it was given.

    Raises:
      RuntimeError: if a pixel is not finite or outside [0, 1], or an image is further than
          epsilon + 1e-6 from the clean one. It is a fault of the attack, never of its input.
    """
    if not np.isfinite(adversarial).all():
        raise RuntimeError("an attack returned an image with a pixel that is not finite")
    low, high = adversarial.min(), adversarial.max()
    if not 0 <= low <= high <= 1:
        raise RuntimeError(f"an attack returned pixels from {low} to {high}, outside [0, 1]")
    order = norm_named(threat.norm).order
    for number, (changed, clean) in enumerate(zip(adversarial, images, strict=True)):
        perturbation = np.asarray(changed, np.float64) - np.asarray(clean, np.float64)
        length = np.linalg.norm(perturbation.ravel(), ord=order)
        if length > threat.epsilon + TOLERANCE:
            raise RuntimeError(
                f"an attack moved image {number} by {length} in {threat.norm}, "
                f"more than epsilon = {threat.epsilon}"
            )
