"""The nearest point of a hyperplane within the box, in closed form (Croce & Hein 2020, section 3).

    min ||d||   with   <w, x + d> = b   and   0 <= x + d <= 1,        gap = <w, x> - b.

Only |w_i| and the room p_i matter, the distance from x_i to the side of the box which lowers |gap|:

    d_i = -sign(gap w_i) m_i,     sum_i |w_i| m_i = |gap|,     0 <= m_i <= p_i,

with m_i = min(lambda, p_i) for Linf and min(lambda |w_i|, p_i) for L2; L1 spends the room of the
largest |w_i| first. The sum grows with lambda and is linear between the values where an entry meets
the box. Sorting these would find lambda; Newton's method does in fewer passes over the pixels.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rctaf_jax.threat_model import norm_named

from .threshold import largest_threshold

NEWTON_STEPS = 16
"""Where their number is fixed; after fewer than it takes, a displacement ends short."""

FlatRows = Float[Array, "B n"]
Column = Float[Array, "B 1"]


def to_hyperplane(
    x: Float[Array, "B ..."], w: Float[Array, "B ..."], gap: Float[Array, " B"], *, norm: str
) -> Float[Array, "B ..."]:
    """The shortest displacement that brings each x to its hyperplane and leaves it in the box.

    It takes gap = <w, x> - b instead of b, since a caller who knows the gap would lose digits by
    adding <w, x> only to have it subtracted here. Multiplying w and gap by one number changes
    nothing. Where the hyperplane is out of reach, all the room towards it is used; where w or gap
    is zero, the displacement is.

    Args:
      x: points in [0, 1].
      w: the hyperplanes' normals, finite.
      gap: how far <w, x> has to fall, of either sign; infinite is out of reach.
      norm: a name in `threat_model.NORMS`, of the length that is least.

    Returns:
      Displacements d. For L1, where equal |w_i| leave a choice, these use equal shares of their
      room.

    Raises:
      InputError: if the norm is unknown.

    Example:
      >>> x, w = jnp.array([[0.5, 0.9]]), jnp.array([[1.0, -3.0]])
      >>> print(to_hyperplane(x, w, jnp.array([0.5]), norm="Linf").round(3))
      [[-0.2  0.1]]
    """
    norm_named(norm)
    chex.assert_equal_shape([x, w])
    chex.assert_rank(gap, 1)
    rows, gap = w.reshape(len(w), -1), gap[:, None].astype(x.dtype)
    towards = jnp.sign(rows) * jnp.sign(gap)
    flat = x.reshape(rows.shape)
    room = jnp.where(towards > 0, flat, jnp.where(towards < 0, 1 - flat, 0))
    # Entries without room do not count, however large; the others' products must not underflow.
    weight = jnp.where(room > 0, jnp.abs(rows), 0)
    largest = jnp.max(weight, axis=1, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1)
    moved = _MOVES[norm](weight / scale, room, jnp.abs(gap) / scale)
    return (-towards * moved).reshape(x.shape)


def _move_linf(weight: FlatRows, room: FlatRows, gap: Column) -> FlatRows:
    return _clipped_ray(jnp.where(weight > 0, 1.0, 0.0).astype(weight.dtype), weight, room, gap)


def _move_l2(weight: FlatRows, room: FlatRows, gap: Column) -> FlatRows:
    return _clipped_ray(weight, weight, room, gap)


def _clipped_ray(speed: FlatRows, weight: FlatRows, room: FlatRows, gap: Column) -> FlatRows:
    """m = min(lambda speed, room) with <weight, m> = gap, by Newton's method.

    The sum is concave in lambda, so from 0 Newton's steps rise to the solution and reach it as soon
    as the set of entries that have met the box is right: after some ten steps, exactly.
    """
    slope = weight * speed
    # An entry that never meets the box contributes nothing, so it may as well meet it at once.
    meets = jnp.where(slope > 0, room / jnp.where(slope > 0, speed, 1), 0)
    full = jnp.where(slope > 0, weight * room, 0)

    def newton(ray: Column) -> Column:
        is_free = meets > ray
        used = jnp.sum(jnp.where(is_free, 0, full), axis=1, keepdims=True)
        free_slope = jnp.sum(jnp.where(is_free, slope, 0), axis=1, keepdims=True)
        solution = jnp.maximum(gap - used, 0) / jnp.where(free_slope > 0, free_slope, 1)
        return jnp.maximum(ray, jnp.where(free_slope > 0, solution, jnp.inf))

    ray = _risen(newton, jnp.zeros_like(gap))
    is_reachable = jnp.isfinite(ray)
    return jnp.where(is_reachable, jnp.minimum(jnp.where(is_reachable, ray, 0) * speed, room), room)


def _risen(newton: Callable[[Column], Column], origin: Column) -> Column:
    """Where Newton's steps end; a further one would change nothing.

    An accelerator's loop that ends by a flag waits for the host at every turn, so there it has a
    fixed number of them.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.fori_loop(0, NEWTON_STEPS, lambda _, ray: newton(ray), origin)

    def advance(state: tuple[Column, Column]) -> tuple[Column, Column]:
        return state[1], newton(state[1])

    start = (origin, newton(origin))
    return jax.lax.while_loop(lambda state: jnp.any(state[1] > state[0]), advance, start)[1]


def _move_l1(weight: FlatRows, room: FlatRows, gap: Column) -> FlatRows:
    """All the room of the entries above some weight, and a share of those that equal it."""
    full = weight * room

    def gained(is_used: Bool[Array, "B n"]) -> Column:
        return jnp.sum(jnp.where(is_used, full, 0), axis=1, keepdims=True)

    least = largest_threshold(lambda t: gained(weight >= t) >= gap, len(weight), weight.dtype)
    # Equal weights share, so that the order of pixels does not matter.
    used, shared = gained(weight > least), gained(weight == least)
    share = jnp.clip((gap - used) / jnp.where(shared > 0, shared, 1), 0, 1)
    moved = jnp.where(weight > least, 1, jnp.where(weight == least, share, 0)) * room
    return jnp.where(gained(weight >= 0) >= gap, moved, room)


_MOVES: dict[str, Callable[[FlatRows, FlatRows, Column], FlatRows]] = {
    "Linf": _move_linf,
    "L2": _move_l2,
    "L1": _move_l1,
}
