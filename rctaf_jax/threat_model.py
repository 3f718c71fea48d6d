"""Threat models: which perturbations of an image an attacker may use.

    { x' :  ||x' - x|| <= epsilon,  0 <= x' <= 1 },      ||.|| = Linf, L2 or L1, per example.

A norm is a row of pure functions in `NORMS`. Every function treats all axes but the first as one
vector, and epsilon is an array like any other: changing it never recompiles. The projection on L1
ball and box together is that of Croce & Hein (2021), "Mind the box", in closed form.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rctaf_jax.errors import InputError
from rctaf_jax.values import lookup

Scalar = float | Float[Array, ""]
Radius = Scalar | Float[Array, " B"]

# How far beyond epsilon an image may lie when it is checked in float64: rounding of its pixels.
TOLERANCE = 1e-6


class Norm(NamedTuple):
    """What an attack must know about a norm; perturbations are [B, ...], in pixels of [0, 1].

    Attributes:
      order: of the p-norm that it is, as `numpy.linalg.norm` takes it.
      length: (perturbation) to its norm, one for each example.
      length_error: (number of entries) to a bound on the relative error of comparing `length`
          with epsilon, in units of the machine epsilon.
      project: (adversarial, images, epsilon) to adversarial images in ball and box.
      steepest: the direction of unit norm with the largest inner product with a gradient. Zero
          where the gradient is zero or not finite, since there it says nothing.
      random_ball: (key, shape) to one draw, uniform in the unit ball.
    """

    order: float
    length: Callable[[Float[Array, "B ..."]], Float[Array, " B"]]
    length_error: Callable[[int], float]
    project: Callable[[Float[Array, "B ..."], Float[Array, "B ..."], Radius], Float[Array, "B ..."]]
    steepest: Callable[[Float[Array, "B ..."]], Float[Array, "B ..."]]
    random_ball: Callable[[Array, tuple[int, ...]], Float[Array, "..."]]


class ThreatModel(NamedTuple):
    """A norm and a budget; build it with `threat_model`, which checks both."""

    norm: str
    epsilon: float


def threat_model(norm: str, epsilon: float) -> ThreatModel:
    """Checks a norm's name and a budget.

    Args:
      norm: a name in `NORMS`: `Linf`, `L2` or `L1`.
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
    return lookup("norm", name, NORMS)


def project(
    adversarial: Float[Array, "B ..."],
    images: Float[Array, "B ..."],
    *,
    norm: str,
    epsilon: Radius,
) -> Float[Array, "B ..."]:
    """Brings images back into the threat model, the ball and the box [0, 1].

    For L1 to the nearest point of both. For Linf and L2 first into the ball, then into the box: the
    result is in both, since clipping to a box that contains the clean image brings every pixel
    closer to it; for L2 it is not always the nearest such point.

    Args:
      adversarial: x', any real numbers.
      images: x, in [0, 1].
      norm: a name in `NORMS` (static).
      epsilon: the radius, at least 0, one for all or one for each example (traced).

    Returns:
      Images in [0, 1], at most epsilon away from x (within 1e-6 in float32).

    Example:
      >>> image = jnp.array([[0.5, 0.9]])
      >>> print(project(image + 1, image, norm="Linf", epsilon=0.25))
      [[0.75 1.  ]]
    """
    chex.assert_equal_shape([adversarial, images])
    adversarial, images = jnp.asarray(adversarial), jnp.asarray(images)
    return norm_named(norm).project(adversarial, images, epsilon).astype(images.dtype)


def is_inside(
    adversarial: Float[Array, "B ..."],
    images: Float[Array, "B ..."],
    *,
    norm: str,
    epsilon: Scalar,
) -> Bool[Array, " B"]:
    """Whether images certainly are in the threat model, in spite of rounding.

    True only if the length in float64 is at most epsilon + 1e-6, so a true answer stands when the
    images are checked on the host; one within rounding of that bound may be false. What `project`
    returns is inside.

    Args:
      adversarial: x', any real numbers; not inside if one is not finite.
      images: x, in [0, 1].
      norm: a name in `NORMS` (static).
      epsilon: the radius, at least 0 (traced).

    Example:
      >>> image = jnp.array([[0.5, 0.5], [0.5, 0.9]])
      >>> is_inside(image + 0.125, image, norm="L1", epsilon=0.25).tolist()
      [True, False]
    """
    chex.assert_equal_shape([adversarial, images])
    row = norm_named(norm)
    perturbation = jnp.asarray(adversarial) - images
    error = row.length_error(math.prod(images.shape[1:])) * _machine_epsilon(perturbation)
    is_in_ball = row.length(perturbation) * (1 + error) <= epsilon + TOLERANCE
    is_in_box = (adversarial >= 0) & (adversarial <= 1)
    return is_in_ball & is_in_box.all(axis=tuple(range(1, images.ndim)))


def _per_example(values: Float[Array, " B"], like: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    return values.reshape(values.shape + (1,) * (like.ndim - 1))


def _length_linf(perturbation: Float[Array, "B ..."]) -> Float[Array, " B"]:
    return jnp.max(jnp.abs(perturbation), axis=tuple(range(1, perturbation.ndim)))


def _project_linf(
    adversarial: Float[Array, "B ..."], images: Float[Array, "B ..."], epsilon: Radius
) -> Float[Array, "B ..."]:
    reach = _per_example(jnp.broadcast_to(epsilon, images.shape[:1]), images)
    return jnp.clip(images + jnp.clip(adversarial - images, -reach, reach), 0, 1)


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


def _project_l2(
    adversarial: Float[Array, "B ..."], images: Float[Array, "B ..."], epsilon: Radius
) -> Float[Array, "B ..."]:
    # The radius gives way for rounding: of a sum of n squares (relative), and of adding the
    # perturbation to n pixels in [0, 1] (half a unit in the last place each, in the worst case all
    # in one direction). Without it 3072 equal pixels leave the ball by 1.6e-6 in float32.
    perturbation = adversarial - images
    rounding = math.sqrt(math.prod(images.shape[1:])) * _machine_epsilon(perturbation)
    radius = jnp.maximum(epsilon * (1 - rounding) - rounding / 4, 0)
    length = _length_l2(perturbation)
    factor = jnp.minimum(1, radius / jnp.where(length > 0, length, 1))
    return jnp.clip(images + perturbation * _per_example(factor, perturbation), 0, 1)


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


def _length_l1(perturbation: Float[Array, "B ..."]) -> Float[Array, " B"]:
    return jnp.sum(jnp.abs(perturbation), axis=tuple(range(1, perturbation.ndim)))


def _project_l1(
    adversarial: Float[Array, "B ..."], images: Float[Array, "B ..."], epsilon: Radius
) -> Float[Array, "B ..."]:
    """The nearest point of ball and box: each entry d of the perturbation loses some a >= 0.

    |d|  ->  min( max(|d| - a, 0), room ),      room = from the pixel to the side it moves to,

    with the least a that brings the sum to epsilon.
    """
    # Flat: XLA reduces one axis of vectors on the CPU nine times as fast as three axes.
    perturbation = (adversarial - images).reshape(len(images), -1)
    clean = images.reshape(perturbation.shape)
    room = jnp.where(perturbation > 0, 1 - clean, clean)
    # The radius gives way for the rounding of sums, so that `is_inside` finds the result inside.
    num_entries = perturbation.shape[1]
    rounding = (2 + _error_of_a_sum(num_entries)) * _machine_epsilon(perturbation)
    radius = jnp.broadcast_to(epsilon, len(images)).astype(room.dtype) * (1 - rounding)
    size = _shrink(jnp.abs(perturbation), room, radius)
    moved = jnp.clip(clean + jnp.copysign(size, perturbation), 0, 1)
    # Rounded towards the image: 3072 roundings the other way could add 1e-4 in float32.
    moved = jnp.where(jnp.abs(moved - clean) > size, jnp.nextafter(moved, clean), moved)
    return moved.reshape(images.shape)


def _shrink(
    size: Float[Array, "B n"], room: Float[Array, "B n"], radius: Float[Array, " B"]
) -> Float[Array, "B n"]:
    """min(max(size - a, 0), room) with the least a >= 0 whose sum is at most the radius.

    The sum falls with a, linearly between breakpoints: bisection until rounding ends it, then the
    chord between the two ends.
    """

    def shrunk(a: Float[Array, " B"]) -> Float[Array, "B n"]:
        return jnp.clip(size - a[:, None], 0, room)

    def halve(
        _: int, ends: tuple[Float[Array, " B"], Float[Array, " B"]]
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        low, high = ends
        middle = (low + high) / 2
        is_enough = _length_l1(shrunk(middle)) <= radius
        return jnp.where(is_enough, low, middle), jnp.where(is_enough, middle, high)

    largest = jnp.max(size, axis=1)
    num_halvings = jnp.finfo(size.dtype).nmant + 2
    low, high = jax.lax.fori_loop(0, num_halvings, halve, (jnp.zeros_like(largest), largest))
    longer, shorter = shrunk(low), shrunk(high)
    gap = _length_l1(longer) - _length_l1(shorter)
    # What is short enough at a = 0 keeps low = 0, and all of it: its share is at least 1.
    share = (radius - _length_l1(shorter)) / jnp.where(gap > 0, gap, 1)
    share = jnp.where(gap > 0, jnp.clip(share, 0, 1), 1)
    return shorter + share[:, None] * (longer - shorter)


def _steepest_l1(gradient: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
    flat = gradient.reshape(len(gradient), -1)
    size = jnp.abs(flat)
    # One entry, also of several that are equally large: the vertices are where the ball ends.
    place = jax.nn.one_hot(jnp.argmax(size, axis=1), flat.shape[1], dtype=bool)
    largest = jnp.max(size, axis=1, keepdims=True)
    has_direction = (largest > 0) & jnp.isfinite(largest)
    return jnp.where(place & has_direction, jnp.sign(flat), 0).reshape(gradient.shape)


def _random_l1(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    sign_key, size_key = jax.random.split(key)
    # n exponentials over the sum of n + 1 of them are uniform below the simplex.
    sizes = jax.random.exponential(size_key, (math.prod(shape) + 1,))
    share = (sizes / jnp.sum(sizes))[1:].reshape(shape)
    return share * jax.random.rademacher(sign_key, shape, share.dtype)


def _machine_epsilon(values: Float[Array, "..."]) -> float:
    return float(jnp.finfo(values.dtype).eps)


def _error_of_a_maximum(num_entries: int) -> float:
    # Half a unit each: the difference of pixels, epsilon itself, and both sides of the comparison.
    return 2.0


def _error_of_a_sum(num_entries: int) -> float:
    return 2.0 + math.sqrt(num_entries)


NORMS = {
    "Linf": Norm(
        math.inf, _length_linf, _error_of_a_maximum, _project_linf, _steepest_linf, _random_linf
    ),
    "L2": Norm(2, _length_l2, _error_of_a_sum, _project_l2, _steepest_l2, _random_l2),
    "L1": Norm(1, _length_l1, _error_of_a_sum, _project_l1, _steepest_l1, _random_l1),
}
