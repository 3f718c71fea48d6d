"""Losses on logits, one number per example.

With p = softmax(z) and the logits sorted as z_(1) >= z_(2) >= ...,

    cross_entropy = -log p_y,             kl_divergence = sum_c p_c (log p_c - log q_c),
    margin = max_{i != y} z_i - z_y,      dlr = margin / (z_(1) - z_(3) + 1e-12),
    dlr_targeted = (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12),
    soft_cross_entropy = -sum_c t_c log p_c,    jensen_shannon = mean_v KL(p_v || mean_v p_v).

Attacks maximise them; the mean over a batch is the caller's. All are finite, and so are their
gradients, for logits whose differences do not overflow.
"""

import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError


def cross_entropy(
    logits: Float[Array, "B C"], labels: Int[Array, " B"], *, label_smoothing: float = 0.0
) -> Float[Array, " B"]:
    """Cross-entropy of the label, -log softmax(z)_y.

    With label smoothing e it is that of the target 1 - e for y and e / (C - 1) for every other
    class.

    Args:
      logits: z, any real numbers.
      labels: y, class indices in 0 .. C - 1.
      label_smoothing: e, in 0 .. 1 (static).

    Returns:
      One value in nats per example (no mean).

    Example:
      >>> print(cross_entropy(jnp.zeros((1, 4)), jnp.array([2])))
      [1.3862944]
    """
    _check_labels(logits, labels)
    log_p = jax.nn.log_softmax(logits)
    right = _at_label(log_p, labels)
    if label_smoothing == 0:
        return -right
    others = (jnp.sum(log_p, axis=-1) - right) / (logits.shape[-1] - 1)
    return -(1 - label_smoothing) * right - label_smoothing * others


SATURATED = -8.0
"""log(1 / p_y - 1) below which float32 makes noise of the cross-entropy's gradient."""


def unsaturated_cross_entropy(
    logits: Float[Array, "B C"], labels: Int[Array, " B"]
) -> Float[Array, " B"]:
    """The cross-entropy with a longer tail: for attacks, which must see where confidence falls.

    With m = log sum_{i != y} exp(z_i) - z_y the cross-entropy is log(1 + e^m), and underflows, as
    its gradient does, where the network is confident. Below m = -8 this is log(1 + e^-8) /
    (-7 - m): it ranks images as the cross-entropy does, and its gradient has the same direction.

    Args:
      logits: z, with at least 2 classes.
      labels: y, class indices in 0 .. C - 1.

    Returns:
      One positive value per example.

    Example:
      >>> print(unsaturated_cross_entropy(jnp.array([[0.0, 0.0], [0.0, 1e6]]), jnp.array([0, 1])))
      [6.931472e-01 3.354087e-10]
    """
    others = jnp.where(jax.nn.one_hot(labels, logits.shape[-1], dtype=bool), -jnp.inf, logits)
    log_odds = jax.nn.logsumexp(others, axis=-1) - _at_label(logits, labels)
    tail = math.log1p(math.exp(SATURATED)) / (1 + SATURATED - jnp.minimum(log_odds, SATURATED))
    return jnp.where(log_odds > SATURATED, cross_entropy(logits, labels), tail)


def soft_cross_entropy(
    target: Float[Array, "B C"], logits: Float[Array, "B C"]
) -> Float[Array, " B"]:
    """Cross-entropy of a distribution, -sum_c t_c log softmax(z)_c.

    Args:
      target: t, probabilities; gradients flow through it too, unless stopped outside.
      logits: z, any real numbers.

    Returns:
      One value in nats per example (no mean).

    Example:
      >>> print(soft_cross_entropy(jnp.array([[0.5, 0.5]]), jnp.zeros((1, 2))))
      [0.6931472]
    """
    chex.assert_equal_shape([target, logits])
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def jensen_shannon(views: Sequence[Float[Array, "B C"]]) -> Float[Array, " B"]:
    """Jensen-Shannon divergence of several predictions, mean_v KL(p_v || m), m their mean.

    m is clipped to [1e-7, 1], as in DAJAT (Addepalli et al. 2022).

    Args:
      views: logits of p_v, one array for each view.

    Returns:
      One value in nats per example (no mean).

    Example:
      >>> print(jensen_shannon([jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 3.0]])]))
      [0.]
    """
    chex.assert_equal_shape(views)
    log_p = jax.nn.log_softmax(jnp.stack(views))
    p = jnp.exp(log_p)
    log_m = jnp.log(jnp.clip(p.mean(0), 1e-7, 1))
    # Where p underflows, log p may be -inf and would poison the product and its gradient.
    ratio = jnp.where(p > 0, log_p, 0) - jnp.where(p > 0, log_m, 0)
    return jnp.sum(p * ratio, axis=-1).mean(0)


def kl_divergence(
    logits_p: Float[Array, "B C"], logits_q: Float[Array, "B C"]
) -> Float[Array, " B"]:
    """Kullback-Leibler divergence KL(p || q) = sum_c p_c (log p_c - log q_c).

    The first argument is the one the expectation is taken under (TRADES puts the clean image
    there), and gradients flow through both: stop them outside where a method wants that. A class
    with p_c = 0, by underflow or by a logit of -inf, adds 0 to the value and to the gradient.

    Args:
      logits_p: logits of p.
      logits_q: logits of q.

    Returns:
      One value >= 0 in nats per example (no mean).

    Example:
      >>> float(kl_divergence(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 3.0]]))[0])
      0.0
    """
    chex.assert_rank([logits_p, logits_q], 2)
    chex.assert_equal_shape([logits_p, logits_q])
    log_p, log_q = jax.nn.log_softmax(logits_p), jax.nn.log_softmax(logits_q)
    p = jnp.exp(log_p)
    # Both logarithms are masked before they meet: -inf - (-inf) would poison the gradient.
    ratio = jnp.where(p > 0, log_p, 0) - jnp.where(p > 0, log_q, 0)
    return jnp.sum(p * ratio, axis=-1)


def margin(logits: Float[Array, "B C"], labels: Int[Array, " B"]) -> Float[Array, " B"]:
    """How far the best wrong class is ahead: max_{i != y} z_i - z_y.

    Negative where the label wins, positive where the example is misclassified. Its gradient does
    not vanish where the network is confident, which the cross-entropy's does.

    Args:
      logits: z, with at least 2 classes.
      labels: y, class indices in 0 .. C - 1.

    Returns:
      One value per example, in units of the logits.

    Raises:
      InputError: if there are fewer than 2 classes.

    Example:
      >>> print(margin(jnp.array([[3.0, 1.0, 2.0]]), jnp.array([0])))
      [-1.]
    """
    _check_labels(logits, labels)
    _require_classes("margin", logits, 2)
    is_label = jnp.arange(logits.shape[-1]) == labels[:, None]
    best_wrong = jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=-1)
    return best_wrong - _at_label(logits, labels)


def dlr(logits: Float[Array, "B C"], labels: Int[Array, " B"]) -> Float[Array, " B"]:
    """Difference of logits ratio, -(z_y - max_{i != y} z_i) / (z_(1) - z_(3) + 1e-12).

    The margin without the scale of the logits (Croce & Hein 2020, equation (6)); gradients flow
    through the sorted logits of the denominator too.

    Args:
      logits: z, with at least 3 classes.
      labels: y, class indices in 0 .. C - 1.

    Returns:
      One value of at least -1 per example, positive where the example is misclassified.

    Raises:
      InputError: if there are fewer than 3 classes.

    Example:
      >>> print(dlr(jnp.array([[3.0, 1.0, 2.0]]), jnp.array([0])))
      [-0.5]
    """
    _check_labels(logits, labels)
    _require_classes("dlr", logits, 3)
    largest, _ = jax.lax.top_k(logits, 3)
    return margin(logits, labels) / (largest[:, 0] - largest[:, 2] + 1e-12)


def dlr_targeted(
    logits: Float[Array, "B C"], labels: Int[Array, " B"], targets: Int[Array, " B"]
) -> Float[Array, " B"]:
    """Targeted difference of logits ratio, -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12).

    How far a wrong class t is ahead of the label, without the scale of the logits (Croce & Hein
    2020, equation (7)); gradients flow through the sorted logits of the denominator too.

    Args:
      logits: z, with at least 4 classes.
      labels: y, class indices in 0 .. C - 1.
      targets: t, class indices in 0 .. C - 1, other than the labels.

    Returns:
      One value per example, positive where the target is ahead of the label.

    Raises:
      InputError: if there are fewer than 4 classes.

    Example:
      >>> print(dlr_targeted(jnp.array([[3.0, 1.0, 2.0, 1.0]]), jnp.array([0]), jnp.array([1])))
      [-1.]
    """
    _check_labels(logits, labels)
    _check_labels(logits, targets)
    _require_classes("dlr_targeted", logits, 4)
    largest, _ = jax.lax.top_k(logits, 4)
    spread = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    return (_at_label(logits, targets) - _at_label(logits, labels)) / (spread + 1e-12)


def _at_label(values: Float[Array, "B C"], labels: Int[Array, " B"]) -> Float[Array, " B"]:
    return jnp.take_along_axis(values, labels[:, None], axis=-1)[:, 0]


def _require_classes(name: str, logits: Float[Array, "B C"], least: int) -> None:
    if logits.shape[-1] < least:
        raise InputError(f"{name} needs logits of at least {least} classes, got {logits.shape[-1]}")


def _check_labels(logits: Array, labels: Array) -> None:
    """Refuse logits and labels of other ranks, as they are passed by mistake."""
    fits = logits.ndim == 2 and labels.shape == logits.shape[:1]
    if fits and jnp.issubdtype(labels.dtype, jnp.integer):
        return
    hint = ""
    if labels.shape == logits.shape and labels.ndim == 2:
        hint = "; of one-hot labels give the argmax"
    elif labels.shape == (*logits.shape[:1], 1):
        hint = "; of a column give labels[:, 0]"
    elif logits.ndim == 1:
        hint = "; of one example give both with an axis in front"
    raise InputError(
        f"logits have shape {logits.shape}, labels {labels.shape} of {labels.dtype}: expected "
        f"[batch, classes] and integers [batch]{hint}."
    )
