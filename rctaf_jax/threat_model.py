"""Threat models: which perturbations of an image an attacker may use.

    { x' :  ||x' - x|| <= epsilon,  0 <= x' <= 1 },      ||.|| = Linf or L2, per example.

A norm is a row of pure functions in `NORMS`. Every function treats all axes but the first as one
vector, and epsilon is an array like any other: changing it never recompiles.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError

Scalar = float | Float[Array, ""]


class Norm(NamedTuple):
    """What an attack must know about a norm; perturbations are [B, ...], in pixels of [0, 1].

    Attributes:
        order: of the p-norm that it is, as `numpy.linalg.norm` takes it.
        project: (perturbation, epsilon) to the nearest perturbation of the ball.
        steepest: the direction of unit norm with the largest inner product with a gradient. Zero
            where the gradient is zero or not finite, since there it says nothing.
        random_ball: (key, shape) to one draw, uniform in the unit ball.
    """

    order: float
    project: Callable[[Float[Array, "B ..."], Scalar], Float[Array, "B ..."]]
    steepest: Callable[[Float[Array, "B ..."]], Float[Array, "B ..."]]
    random_ball: Callable[[Array, tuple[int, ...]], Float[Array, "..."]]


class ThreatModel(NamedTuple):
    """A norm and a budget; build it with `threat_model`, which checks both."""

    norm: str
    epsilon: float


def threat_model(norm: str, epsilon: float) -> ThreatModel:
    """Checks a norm's name and a budget.

    Args:
        norm: a name in `NORMS`: `Linf` or `L2`.
        epsilon: the radius in pixels of [0, 1], at least 0 (0 allows the clean image only).

    Raises:
        InputError: if the norm is unknown, or epsilon is negative or not finite.

    Example:
        >>> threat_model("Linf", 0.03)
        ThreatModel(norm='Linf', epsilon=0.03)
    """
    norm_named(norm)
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise InputError(f"epsilon must be a finite number of at least 0, got {epsilon}")
    return ThreatModel(norm, float(epsilon))


def norm_named(name: str) -> Norm:
    """The row of `NORMS` with this name.

    Raises:
        InputError: if there is none.
    """
    if name not in NORMS:
        raise InputError(f"unknown norm {name!r}: expected {' or '.join(NORMS)}")
    return NORMS[name]


def project(
    adversarial: Float[Array, "B ..."],
    images: Float[Array, "B ..."],
    *,
    norm: str,
    epsilon: Scalar,
) -> Float[Array, "B ..."]:
    """Brings images back into the threat model: first into the ball, then into the box [0, 1].

    The result is in both, since clipping to a box that contains the clean image brings every pixel
    closer to it; for L2 it is not always the nearest such point.

    Args:
        adversarial: x', any real numbers.
        images: x, in [0, 1].
        norm: a name in `NORMS` (static).
        epsilon: the radius, at least 0 (traced).

    Returns:
        Images in [0, 1], at most epsilon away from x (within 1e-6 in float32).

    Example:
        >>> image = jnp.array([[0.5, 0.9]])
        >>> print(project(image + 1, image, norm="Linf", epsilon=0.25))
        [[0.75 1.  ]]
    """
    chex.assert_equal_shape([adversarial, images])
    adversarial, images = jnp.asarray(adversarial), jnp.asarray(images)
    perturbation = norm_named(norm).project(adversarial - images, epsilon)
    return jnp.clip(images + perturbation, 0, 1).astype(images.dtype)


def _per_example(values: Float[Array, " B"], like: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def _length_linf(perturbation: Float[Array, "B ..."]) -> Float[Array, " B"]:
    return jnp.max(jnp.abs(perturbation), axis=tuple(range(1, perturbation.ndim)))


def _project_linf(perturbation: Float[Array, "B ..."], epsilon: Scalar) -> Float[Array, "B ..."]:
    return jnp.clip(perturbation, -epsilon, epsilon)


def _steepest_linf(gradient: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    return jnp.where(jnp.isnan(gradient), 0, jnp.sign(gradient))


def _random_linf(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    return jax.random.uniform(key, shape, minval=-1, maxval=1)


def _length_l2(perturbation: Float[Array, "B ..."]) -> Float[Array, " B"]:
    # Scaled by the largest entry: the squares of a vanishing gradient would underflow to 0.
    largest = _length_linf(perturbation)
    scale = jnp.where(largest > 0, largest, 1)
    scaled = perturbation / _per_example(scale, perturbation)
    return scale * jnp.sqrt(jnp.sum(scaled**2, axis=tuple(range(1, perturbation.ndim))))


def _project_l2(perturbation: Float[Array, "B ..."], epsilon: Scalar) -> Float[Array, "B ..."]:
    # The radius gives way for rounding: of a sum of n squares (relative), and of adding the
    # perturbation to n pixels in [0, 1] (half a unit in the last place each, in the worst case all
    # in one direction). Without it 3072 equal pixels leave the ball by 1.6e-6 in float32.
    num_entries = math.prod(perturbation.shape[1:])
    rounding = math.sqrt(num_entries) * float(jnp.finfo(perturbation.dtype).eps)
    radius = jnp.maximum(epsilon * (1 - rounding) - rounding / 4, 0)
    length = _length_l2(perturbation)
    factor = jnp.minimum(1, radius / jnp.where(length > 0, length, 1))
    return perturbation * _per_example(factor, perturbation)


def _steepest_l2(gradient: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    length = _length_l2(gradient)
    has_direction = (length > 0) & jnp.isfinite(length)
    divisor = _per_example(jnp.where(has_direction, length, 1), gradient)
    return jnp.where(_per_example(has_direction, gradient), gradient / divisor, 0)


def _random_l2(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    direction_key, radius_key = jax.random.split(key)
    normal = jax.random.normal(direction_key, shape)
    # The volume inside radius r grows as r^n.
    radius = jax.random.uniform(radius_key) ** (1 / max(normal.size, 1))
    return radius * normal / jnp.linalg.norm(normal.ravel())


NORMS = {
    "Linf": Norm(math.inf, _project_linf, _steepest_linf, _random_linf),
    "L2": Norm(2, _project_l2, _steepest_l2, _random_l2),
}
