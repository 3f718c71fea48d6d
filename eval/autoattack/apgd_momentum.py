"""How APGD moves in Linf and L2 (Croce & Hein 2020): momentum, and steps that are halved.

    u       = P( x_k + eta s(g_k) ),                                      g_k = grad loss(z(x_k)),
    x_{k+1} = P( x_k + a (u - x_k) + (1 - a) (x_k - x_{k-1}) ),           a = 1, then 3/4,

with s the steepest direction of the norm and P the projection. Where the loss rose in too few of a
window's steps, eta is halved and the search goes back to the best point. The windows get shorter.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.aliases import Pixels
from rctaf_jax.threat_model import Scalar, norm_named, project

from .apgd_iterate import Iterate
from .attack import choose

UPDATE_SHARE = 0.75
"""a, of every update but the first."""
RHO = 0.75
"""Share of a window's steps that must raise the loss, or eta is halved."""


class Momentum(NamedTuple):
    """What a step in Linf and L2 must know.

    Attributes:
      previous: x_{k-1}.
      step_size: eta, in pixels of [0, 1].
      last_loss: at x_{k-1}.
      num_increases: of the loss since the last checkpoint.
      best_at_check: the best loss at the last checkpoint.
      was_halved: eta was halved there.
    """

    previous: Pixels
    step_size: Float[Array, " B"]
    last_loss: Float[Array, " B"]
    num_increases: Int[Array, " B"]
    best_at_check: Float[Array, " B"]
    was_halved: Bool[Array, " B"]


def windows(num_steps: int) -> Int[np.ndarray, " K"]:
    """For each evaluation 0 .. num_steps, the length of the window it closes, or 0.

    Example:
      >>> np.flatnonzero(windows(100)).tolist()
      [22, 41, 57, 70, 80, 87, 93, 99]
    """
    closes = np.zeros(num_steps + 1, np.int32)
    # In integers, because int(0.29 * 100) is 28.
    length, shrinkage, least = (max(share * num_steps // 100, 1) for share in (22, 3, 6))
    k = length
    while k <= num_steps:
        closes[k] = length
        length = max(length - shrinkage, least)
        k += length
    return closes


def begin(start: Pixels, epsilon: Scalar) -> Momentum:
    """Before the first evaluation: the longest step that the ball allows."""
    size = len(start)
    return Momentum(
        previous=start,
        step_size=jnp.full(size, 2 * epsilon, start.dtype),
        last_loss=jnp.zeros(size, start.dtype),
        num_increases=jnp.zeros(size, jnp.int32),
        best_at_check=jnp.full(size, -jnp.inf, start.dtype),
        was_halved=jnp.ones(size, bool),
    )


def move(
    norm: str,
    closes: Int[np.ndarray, " K"],
    k: Int[Array, " B"],
    epsilon: Scalar,
    images: Pixels,
    here: Iterate,
    best: Iterate,
    memory: Momentum,
) -> tuple[Pixels, Momentum]:
    """From the evaluation of x_k to x_{k+1}, in Linf and L2."""
    halve, memory = _adapt(jnp.asarray(closes)[k], k, here.loss, best.loss, memory)
    here = choose(halve, best, here)
    bound = functools.partial(project, images=images, norm=norm, epsilon=epsilon)
    step = memory.step_size[:, None, None, None] * norm_named(norm).steepest(here.gradient)
    target = bound(here.x + step)
    a = jnp.where(k == 0, 1, UPDATE_SHARE).astype(images.dtype)[:, None, None, None]
    # After halving, x_{k-1} stays the point before the last update, as in the official code.
    x = bound(here.x + a * (target - here.x) + (1 - a) * (here.x - memory.previous))
    return x, memory._replace(previous=here.x)


def _adapt(
    window: Int[Array, " B"],
    k: Int[Array, " B"],
    loss: Float[Array, " B"],
    best_loss: Float[Array, " B"],
    memory: Momentum,
) -> tuple[Bool[Array, " B"], Momentum]:
    """Counts increases, and at a checkpoint decides where the step size is halved."""
    is_check = window > 0
    # As in the official code the loss after the first update is compared with 0, not with the
    # start's: an increase for the cross-entropy, and for a DLR loss only once it is positive.
    num_increases = memory.num_increases + ((k > 0) & (loss > memory.last_loss))
    is_oscillating = num_increases <= RHO * window
    is_stuck = ~memory.was_halved & (best_loss <= memory.best_at_check)
    halve = is_check & (is_oscillating | is_stuck)
    return halve, Momentum(
        memory.previous,
        jnp.where(halve, memory.step_size / 2, memory.step_size),
        jnp.where(k > 0, loss, 0),
        jnp.where(is_check, 0, num_increases),
        jnp.where(is_check, best_loss, memory.best_at_check),
        jnp.where(is_check, halve, memory.was_halved),
    )
