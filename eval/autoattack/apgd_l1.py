"""How APGD moves in L1 (Croce & Hein 2021, "Mind the box"): sparse steps, radii that shrink.

    x_{k+1} = P( x_k + eta sign(g_s) / ||sign(g_s)||_1 ),     g_s = the largest entries of g,

P the projection on ball and box together. Three phases search the balls of 3, 2 and 1 epsilon, each
from the best point of the one before; only what the last one finds counts.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.aliases import Pixels
from rctaf_jax.threat_model import Scalar, project

from .apgd_iterate import Iterate
from .threshold import largest_threshold

FIRST_RADIUS = 3.0
_SHRINKAGE = 1.5
_LEAST_STEP = 0.1
_IS_SPARSER = 0.95


class Phases(NamedTuple):
    """What depends on the number of the evaluation k only.

    Attributes:
      radius: of the ball that x_k lies in, in units of epsilon.
      is_first: x_k opens a phase.
      is_last: x_k closes a phase, so that the next one starts from the phase's best point.
      is_check: the step size and the sparsity are adapted.
    """

    radius: Float[np.ndarray, " K"]
    is_first: Bool[np.ndarray, " K"]
    is_last: Bool[np.ndarray, " K"]
    is_check: Bool[np.ndarray, " K"]


class Sparse(NamedTuple):
    """What the next step must know.

    Attributes:
      step_size: eta, in pixels of [0, 1].
      fraction: of the entries of a gradient that are followed.
      sparsity: how many entries of the best perturbation were not 0 at the last check.
    """

    step_size: Float[Array, " B"]
    fraction: Float[Array, " B"]
    sparsity: Float[Array, " B"]


def make_phases(num_steps: int) -> Phases:
    """The phases: 30, 30 and 40 % of the updates, each with an evaluation of its start.

    Example:
      >>> phases = make_phases(100)
      >>> np.flatnonzero(phases.is_first).tolist(), len(phases.radius)
      ([0, 31, 62], 103)
      >>> phases.radius[[0, 30, 31, 61, 62, 102]].tolist()
      [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]
    """
    # In integers: 0.3 * 10 in floating point lies above 3 for some numbers of steps.
    early = -(-3 * num_steps // 10)
    lengths = [early, early, num_steps - 2 * early]
    numbers = [np.arange(length + 1) for length in lengths]
    radii = np.repeat([FIRST_RADIUS, 2.0, 1.0], [length + 1 for length in lengths])
    is_first = np.concatenate([number == 0 for number in numbers])
    is_check = [
        (number > 0) & (number % max(4 * length // 100, 1) == 0)
        for number, length in zip(numbers, lengths, strict=True)
    ]
    return Phases(radii, is_first, np.append(is_first[1:], True), np.concatenate(is_check))


def begin(start: Pixels) -> Sparse:
    """Before the first evaluation; a phase's first step sets all of it."""
    nothing = jnp.zeros(len(start), start.dtype)
    return Sparse(nothing, nothing, nothing)


def move(
    phases: Phases,
    k: Int[Array, " B"],
    epsilon: Scalar,
    images: Pixels,
    here: Iterate,
    best: Iterate,
    memory: Sparse,
) -> tuple[Pixels, Sparse]:
    """From the evaluation of x_k to x_{k+1}."""
    radius = jnp.asarray(phases.radius, images.dtype)[k] * epsilon
    is_first, is_last, is_check = (
        jnp.asarray(table)[k] for table in (phases.is_first, phases.is_last, phases.is_check)
    )
    memory, is_sparser = _adapt(radius, is_first, is_check, best.x - images, memory)
    back = is_sparser[:, None, None, None]
    x = jnp.where(back, best.x, here.x)
    direction = _sparse_sign(jnp.where(back, best.gradient, here.gradient), memory.fraction)
    stepped = x + memory.step_size[:, None, None, None] * direction
    after = jnp.where(is_last[:, None, None, None], best.x, stepped)
    next_radius = jnp.asarray(np.append(phases.radius[1:], 1), images.dtype)[k] * epsilon
    return project(after, images, norm="L1", epsilon=next_radius), memory


def _adapt(
    radius: Float[Array, " B"],
    is_first: Bool[Array, " B"],
    is_check: Bool[Array, " B"],
    perturbation: Pixels,
    memory: Sparse,
) -> tuple[Sparse, Bool[Array, " B"]]:
    """A perturbation that got sparser starts again from the best point, with large steps."""
    dtype = perturbation.dtype
    sparsity = jnp.sum(perturbation != 0, axis=(1, 2, 3)).astype(dtype)
    is_sparser = is_check & (sparsity < _IS_SPARSER * memory.sparsity)
    smaller = jnp.maximum(memory.step_size / _SHRINKAGE, _LEAST_STEP * radius)
    step_size = jnp.where(is_sparser, radius, jnp.where(is_check, smaller, memory.step_size))
    is_new = is_first | is_check
    fraction = sparsity / math.prod(perturbation.shape[1:]) / _SHRINKAGE
    adapted = Sparse(
        jnp.where(is_first, radius, step_size).astype(dtype),
        jnp.where(is_new, fraction, memory.fraction),
        jnp.where(is_new, sparsity, memory.sparsity),
    )
    return adapted, is_sparser


def _sparse_sign(gradient: Pixels, fraction: Float[Array, " B"]) -> Pixels:
    """The signs of the largest entries (and of all that equal the least of them), of length 1."""
    flat = gradient.reshape(len(gradient), -1)
    size = jnp.abs(flat)
    num_entries = flat.shape[1]
    dropped = jnp.clip(((1 - fraction) * num_entries).astype(jnp.int32), 0, num_entries - 1)
    num_kept = (num_entries - dropped)[:, None]
    least = largest_threshold(
        lambda t: jnp.sum(size >= t, axis=1, keepdims=True) >= num_kept, len(size), size.dtype
    )
    is_large = size >= least
    signs = jnp.where(is_large, jnp.sign(flat), 0)
    count = jnp.sum(jnp.abs(signs), axis=1, keepdims=True)
    return (signs / jnp.maximum(count, 1)).reshape(gradient.shape)
