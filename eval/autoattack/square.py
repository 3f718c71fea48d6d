"""Square (Andriushchenko et al. 2020): random search with a shrinking window, without gradients.

    x_{k+1} = x'  if  m(x') < m(x_k)  or  m(x') <= 0,  else x_k,       m = z_y - max_{i != y} z_i.

A proposal x' changes x_k inside a random window, with a random sign rho_c for each channel. In Linf

    x' = x + epsilon rho_c  in the window (and the box),   x_k elsewhere,

x the clean image; `square_tiles` has L2 and L1. This follows AutoAttack, with one difference on
purpose: there windows and signs are one draw for the whole batch, so that results depend on who
is in it; here every example draws its own.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rctaf_jax import losses
from rctaf_jax.aliases import Pixels
from rctaf_jax.errors import InputError
from rctaf_jax.threat_model import Scalar, project
from rctaf_jax.values import lookup

from .attack import Attack, Examples, Outcome, PredictWithKeys, initial_outcome, observe
from .square_tiles import tile_moves
from .square_windows import (
    Moves,
    SidesFn,
    corner_of,
    sign_of,
    uniform_of,
    window_mask,
    window_sides,
)


class SquareState(NamedTuple):
    """Where a run stands.

    Attributes:
      x: the best image so far; before the first step, the start.
      margin: how far it is misclassified, max_{i != y} z_i - z_y; -inf before the first step.
      run: the number of the run.
      outcome: what became of each example.
    """

    x: Pixels
    margin: Float[Array, " B"]
    run: Int[Array, " B"]
    outcome: Outcome


def make_square(*, norm: str, num_queries: int = 5000, initial_fraction: float = 0.8) -> Attack:
    """Makes the attack Square; every step asks the network once, and never for a gradient.

    Args:
      norm: `Linf`, `L2` or `L1`.
      num_queries: images tried for each example, the start included, at least 1.
      initial_fraction: of the image that the first windows cover, in (0, 1].

    Raises:
      InputError: if the norm is unknown, or a number is not allowed.

    Example:
      >>> attack = make_square(norm="Linf", num_queries=100)
      >>> attack.name, attack.num_steps, attack.backward_passes
      ('square', 100, 0)
    """
    if num_queries < 1:
        raise InputError(f"num_queries must be at least 1, got {num_queries}")
    if not 0 < initial_fraction <= 1:
        raise InputError(f"initial_fraction must be in (0, 1], got {initial_fraction}")
    make_moves = lookup("norm", norm, _MOVES)
    moves = make_moves(functools.partial(window_sides, num_queries, initial_fraction))
    return Attack(
        name="square",
        norm=norm,
        min_classes=2,
        num_runs=1,
        num_steps=num_queries,
        start=functools.partial(_start, moves),
        step=functools.partial(_step, moves),
        forward_passes=1,
        backward_passes=0,
        settings=(("initial_fraction", initial_fraction),),
    )


def _start(moves: Moves, examples: Examples, run: Int[Array, " B"], epsilon: Scalar) -> SquareState:
    keys, _ = _keys_of(examples.keys, run, jnp.zeros_like(run))
    x = moves.start(keys, examples.images, epsilon)
    margin = jnp.full(len(x), -jnp.inf, examples.clean_logits.dtype)
    return SquareState(x, margin, run, initial_outcome(examples.images))


def _step(
    moves: Moves,
    predict: PredictWithKeys,
    examples: Examples,
    k: Int[Array, " B"],
    epsilon: Scalar,
    state: SquareState,
) -> SquareState:
    keys, network_keys = _keys_of(examples.keys, state.run, k)
    proposal = moves.propose(keys, k, state.x, examples.images, epsilon)
    x = jnp.where(_each(k > 0), proposal, state.x)
    logits = predict(x, network_keys)
    margin = losses.margin(logits, examples.labels)
    # False for NaN. A misclassified image is taken even if it is so by less than the last one.
    is_taken = (margin > state.margin) | (margin >= 0)
    return SquareState(
        jnp.where(_each(is_taken), x, state.x),
        jnp.fmax(margin, state.margin),
        state.run,
        observe(state.outcome, x, logits, examples.labels),
    )


def _keys_of(keys: Array, run: Int[Array, " B"], k: Int[Array, " B"]) -> tuple[Array, Array]:
    """Two for each example, run and step: for the attack's own draws and for the network's.

    Step 0 proposes nothing, so its key is the start's.
    """
    fold = jax.vmap(jax.random.fold_in)
    both = jax.vmap(jax.random.split)(fold(fold(keys, run), k))
    return both[:, 0], both[:, 1]


def _each(values: Array) -> Array:
    return values[:, None, None, None]


def _stripes(keys: Array, images: Pixels, epsilon: Scalar) -> Pixels:
    # One sign for a column and channel: vertical stripes, to which networks are sensitive.
    signs = sign_of(uniform_of(keys, (1, *images.shape[2:])))
    return project(images + epsilon * signs, images, norm="Linf", epsilon=epsilon)


def _propose_squares(
    sides_of: SidesFn,
    keys: Array,
    k: Int[Array, " B"],
    x: Pixels,
    images: Pixels,
    epsilon: Scalar,
) -> Pixels:
    _, height, width, channels = images.shape
    side = jnp.asarray(sides_of(height, width))[k]
    # One draw for all, cut up: two numbers for the corner, then a sign for each channel.
    uniform = uniform_of(keys, (2 + channels,))
    corner = corner_of(uniform[:, :2], side, height, width)
    signs = sign_of(uniform[:, None, None, 2:])
    # AutoAttack adds 2 epsilon rho to x_k and projects: from anywhere in the ball that is here.
    filled = project(images + epsilon * signs, images, norm="Linf", epsilon=epsilon)
    return jnp.where(window_mask(corner, side, height, width), filled, x)


def _square_moves(sides_of: SidesFn) -> Moves:
    return Moves(_stripes, functools.partial(_propose_squares, sides_of))


_MOVES: dict[str, Callable[[SidesFn], Moves]] = {
    "Linf": _square_moves,
    "L2": functools.partial(tile_moves, "L2"),
    "L1": functools.partial(tile_moves, "L1"),
}
