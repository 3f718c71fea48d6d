"""Projected gradient ascent, the inner maximisation of adversarial training and of PGD.

x <- P( x + eta s(grad f(x)) ),      s = steepest direction of the norm, P = ball, then box.
"""

from collections.abc import Callable

import chex
import jax
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError
from rctaf_jax.threat_model import Scalar, norm_named, project


def projected_ascent(
    objective: Callable[[Float[Array, "B ..."]], Float[Array, ""]],
    start: Float[Array, "B ..."],
    images: Float[Array, "B ..."],
    *,
    norm: str,
    epsilon: Scalar,
    step_size: Scalar,
    num_steps: int | Int[Array, ""],
) -> Float[Array, "B ..."]:
    """Maximises an objective within a threat model by a fixed number of steps of fixed size.

    The steps run in a loop on the device, so the program's size does not depend on their number.
    No gradient flows through the result.

    Args:
      objective: the **sum** over the batch of each example's objective. Examples must not
          interact in it (BatchNorm in inference mode), or one example's perturbation is chosen
          to harm another; a mean would only scale the gradient, which s ignores.
      start: where to start, used as given: the first gradient is taken there, inside the threat
          model or not.
      images: the clean images x, in [0, 1].
      norm: a name in `threat_model.NORMS` (static).
      epsilon: radius of the ball, in pixels of [0, 1] (traced).
      step_size: eta, in pixels of [0, 1] (traced).
      num_steps: number of steps, at least 0, traced or not; 0 returns the start.

    Returns:
      The last iterate, in the ball and in [0, 1].

    Raises:
      InputError: if the norm is unknown, or num_steps is an int below 0.

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[0.5, 0.5]])
      >>> attack = dict(norm="Linf", epsilon=0.25, step_size=0.125, num_steps=3)
      >>> print(projected_ascent(lambda x: jnp.sum(x[:, 0] - x[:, 1]), x, x, **attack))
      [[0.75 0.25]]
    """
    chex.assert_equal_shape([start, images])
    if isinstance(num_steps, int) and num_steps < 0:
        raise InputError(f"num_steps must be at least 0, got {num_steps}")
    steepest = norm_named(norm).steepest

    def step(_: int, x: Float[Array, "B ..."]) -> Float[Array, "B ..."]:
        direction = steepest(jax.grad(objective)(x))
        return project(x + step_size * direction, images, norm=norm, epsilon=epsilon)

    return jax.lax.stop_gradient(jax.lax.fori_loop(0, num_steps, step, start))
