"""Sharpness as the field defines it: how much a loss grows within a ball around the parameters.

    max over ||T^(-1) d|| <= rho of L(theta + d) - L(theta)

with T a positive size for each parameter: 1 for SAM (Foret et al. 2021), |theta| for its adaptive
form (ASAM, Kwon et al. 2021, which rescaling layers does not change), and 1 + |theta| in Linf for
Keskar et al. (2017). Inside the ball it is g^T d to first order, g the gradient, whose maximum is
rho ||T g||_*, * the dual norm. What is reported as the growth is a lower bound: the largest loss
that a few steps of ascent meet, the first of them SAM's own.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError

from .leaves import check_params, finite_value
from .products import Params, ScalarLoss

Vector = Float[Array, " p"]
STEP_RATIO = 2.5
"""Lengths of all steps together over rho, as is usual for projected ascent."""


class Ball(NamedTuple):
    """A norm's ball, for vectors of all parameters.

    Attributes:
      steepest: the vector of norm 1 with the largest product with a gradient; 0 of 0.
      project: the nearest vector of a norm of at most rho.
      dual: the dual norm.
    """

    steepest: Callable[[Vector], Vector]
    project: Callable[[Vector, float], Vector]
    dual: Callable[[Vector], Float[Array, ""]]


def _unit(vector: Vector) -> Vector:
    length = jnp.linalg.norm(vector)
    return vector / jnp.where(length > 0, length, 1)


def _shorten(vector: Vector, rho: float) -> Vector:
    return vector * jnp.minimum(1, rho / jnp.maximum(jnp.linalg.norm(vector), rho))


BALLS = {
    "L2": Ball(_unit, _shorten, jnp.linalg.norm),
    "Linf": Ball(jnp.sign, lambda v, rho: jnp.clip(v, -rho, rho), lambda v: jnp.sum(jnp.abs(v))),
}


class Sharpness(NamedTuple):
    """How much a loss grows.

    Attributes:
      first_order: rho ||T g||_*, the linear model's maximum.
      growth: L(theta + d) - L(theta), the largest that the steps met; 0 if none was above L(theta).
      perturbation: d, where it was met, like params.
      loss: L(theta).
      num_gradients: that it took.
    """

    first_order: float
    growth: float
    perturbation: Params
    loss: float
    num_gradients: int

    def summary(self) -> str:
        """The growth beside its linear model, in one sentence."""
        return (
            f"The loss grows from {self.loss:.4g} by {self.growth:.4g} "
            f"({self.first_order:.4g} to first order), by {self.num_gradients} gradients."
        )


def plain_size(params: Params) -> Params:
    """T of SAM, 1 for each parameter."""
    return jax.tree.map(jnp.ones_like, params)


def adaptive_size(params: Params) -> Params:
    """T of ASAM, |theta|: parameters that are 0 stay so."""
    return jax.tree.map(jnp.abs, params)


def keskar_size(params: Params) -> Params:
    """T of Keskar et al., 1 + |theta|."""
    return jax.tree.map(lambda leaf: 1 + jnp.abs(leaf), params)


def sam_sharpness(
    loss: ScalarLoss,
    params: Params,
    *,
    rho: float,
    norm: str = "L2",
    size: Callable[[Params], Params] = plain_size,
    num_steps: int = 1,
) -> Sharpness:
    """How much a loss grows within a ball, to first order and by steps of ascent.

    Args:
      loss: from params to a scalar, differentiable; compiled, once a call.
      params: the centre.
      rho: the ball's radius, in units of T.
      norm: L2 or Linf, over all parameters together.
      size: T: `plain_size` (SAM), `adaptive_size` (ASAM), `keskar_size`.
      num_steps: 1 goes to the linear model's maximum, as SAM does; more are projected ascent.

    Raises:
      InputError: if params have no entries or other types than floating-point ones, the loss is not
          one finite number, rho is not positive and finite, norm is another, or num_steps is less
          than 1.

    Example, L = w1^2 + 2 w2^2 at (1, 1):
      >>> found = sam_sharpness(
      ...     lambda w: w[0] ** 2 + 2 * w[1] ** 2, jnp.ones(2), rho=0.1, norm="Linf"
      ... )
      >>> round(found.first_order, 4), round(found.growth, 4)
      (0.6, 0.63)
    """
    params = check_params(params)
    _check(rho, norm, num_steps)
    start = finite_value(loss, params)
    flat, restore = ravel_pytree(params)
    scale, _ = ravel_pytree(size(params))
    ball = BALLS[norm]

    @jax.jit
    def gradient(e: Vector) -> Vector:
        return jax.grad(lambda e: loss(restore(flat + scale * e)))(e)

    value = jax.jit(lambda e: loss(restore(flat + scale * e)))
    length = rho if num_steps == 1 else STEP_RATIO * rho / num_steps
    point = best = jnp.zeros_like(flat)
    highest, slope = start, gradient(point)
    first_order = rho * float(ball.dual(slope))
    for step in range(num_steps):
        slope = slope if step == 0 else gradient(point)
        point = ball.project(point + length * ball.steepest(slope), rho)
        here = float(value(point))
        # A loss that is not a number has left every scale.
        here = math.inf if math.isnan(here) else here
        if here > highest:
            highest, best = here, point
    return Sharpness(
        first_order=first_order,
        growth=highest - start,
        perturbation=restore(scale * best),
        loss=start,
        num_gradients=num_steps,
    )


def keskar_sharpness(
    loss: ScalarLoss, params: Params, *, epsilon: float = 1e-3, num_steps: int = 10
) -> float:
    """Keskar et al.'s measure, in percent.

        100 (max over |d_i| <= epsilon (1 + |theta_i|) of L(theta + d) - L(theta)) / (1 + L(theta))

    The maximum is what steps of ascent meet (theirs: 10 iterations of L-BFGS-B): a lower bound.

    Args:
      loss: from params to a scalar, differentiable, not negative.
      params: the centre.
      epsilon: the box's half width.
      num_steps: gradients to spend.

    Raises:
      InputError: as `sam_sharpness` does.

    Source: Keskar et al. 2017 (arXiv:1609.04836), metric 2.1 with A the identity.

    Example:
      >>> round(keskar_sharpness(lambda w: w**2, 1.0, epsilon=0.1), 4)
      22.0
    """
    found = sam_sharpness(
        loss, params, rho=epsilon, norm="Linf", size=keskar_size, num_steps=num_steps
    )
    return 100 * found.growth / (1 + found.loss)


def _check(rho: float, norm: str, num_steps: int) -> None:
    if not 0 < rho < math.inf:
        raise InputError(f"rho must be positive and finite, got {rho}")
    if norm not in BALLS:
        raise InputError(f"got norm {norm!r}: expected one of {', '.join(BALLS)}")
    if num_steps < 1:
        raise InputError(f"num_steps must be at least 1, got {num_steps}")
