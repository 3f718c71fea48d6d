"""The Gauss-Newton part of a Hessian and the rest, each as the Hessian of a loss.

For a loss of a network's outputs, L(theta) = loss(z(theta)),

    H = J^T (d^2 loss / dz^2) J + sum_c (d loss / dz_c) d^2 z_c / dtheta^2,

J = dz/dtheta. The first part is Gauss-Newton's, positive semidefinite where the loss is convex in
z, and for cross-entropy equal to Fisher's matrix of the network's own classes. The second has every
second derivative of the network, and so of its activation: sigma'' enters it linearly.

The first is the Hessian of loss(z_0 + J (theta - theta_0)), the network made linear at theta_0, and
the second that of sum_c (d loss / dz_c)(theta_0) z_c(theta). Written so, with theta_0 the point
itself held fixed, both are losses like any other: products over datasets, exact diagonals, traces,
spectra and checks take them as they are, and the sum of the parts is the whole to rounding. Only
their Hessians mean anything.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .products import LossFn, Params, Rest, ScalarLoss, hessian_vector_product

Outputs = Any
OutputsFn = Callable[[Params, Rest, Float[Array, "B H W C"]], Float[Array, "B ..."]]
OutputLosses = Callable[[Float[Array, "B ..."], Int[Array, " B"]], Float[Array, " B"]]


def gauss_newton_loss(
    outputs: Callable[[Params], Outputs], loss: Callable[[Outputs], Float[Array, "..."]]
) -> Callable[[Params], Float[Array, "..."]]:
    """A loss whose Hessian is the Gauss-Newton part of loss(outputs(params)).

    Args:
      outputs: from params to a network's outputs, with forward mode.
      loss: from outputs to a scalar, or to one loss for each example.

    Example, (w^2 - 3)^2 at 2: 2 (dz/dw)^2 of the whole 2 (2 w)^2 + 2 (w^2 - 3) 2 = 36:
      >>> part = gauss_newton_loss(lambda w: w**2, lambda z: (z - 3) ** 2)
      >>> print(jax.grad(jax.grad(part))(2.0))
      32.0
    """

    def part(params: Params) -> Float[Array, "..."]:
        fixed = jax.lax.stop_gradient(params)
        step = jax.tree.map(jnp.subtract, params, fixed)
        value, change = jax.jvp(outputs, (fixed,), (step,))
        return loss(jax.tree.map(jnp.add, value, change))

    return part


def residual_loss(
    outputs: Callable[[Params], Outputs], loss: Callable[[Outputs], Float[Array, "..."]]
) -> Callable[[Params], Float[Array, ""]]:
    """A loss whose Hessian is the rest of loss(outputs(params)): the part with sigma''.

    Args:
      outputs: from params to a network's outputs.
      loss: from outputs to a scalar, or to one loss for each example, which are added up.

    Example, 2 (w^2 - 3) 2 at 2:
      >>> part = residual_loss(lambda w: w**2, lambda z: (z - 3) ** 2)
      >>> print(jax.grad(jax.grad(part))(2.0))
      4.0
    """

    def part(params: Params) -> Float[Array, ""]:
        value = outputs(params)
        slope = jax.grad(lambda z: jnp.sum(loss(z)))(jax.lax.stop_gradient(value))
        slope = jax.lax.stop_gradient(slope)
        terms = jax.tree.map(lambda g, z: jnp.sum(g * z), slope, value)
        return jax.tree.reduce(jnp.add, terms)

    return part


def gauss_newton_product(
    outputs: Callable[[Params], Outputs],
    loss: Callable[[Outputs], Float[Array, ""]],
    params: Params,
    vector: Params,
) -> Params:
    """J^T (d^2 loss / dz^2) J v.

    Args:
      outputs: from params to a network's outputs, with forward mode.
      loss: from outputs to a scalar.
      params: where to take it.
      vector: v, like params.

    Returns:
      The product, like params.

    Raises:
      InputError: if the loss is not scalar, or params have no entries or other types than
          floating-point ones.

    Example:
      >>> product = gauss_newton_product(lambda w: w**2, lambda z: jnp.sum(z - 3) ** 2, 2.0, 1.0)
      >>> print(product)
      32.0
    """
    return _product(gauss_newton_loss(outputs, loss), params, vector)


def residual_product(
    outputs: Callable[[Params], Outputs],
    loss: Callable[[Outputs], Float[Array, ""]],
    params: Params,
    vector: Params,
) -> Params:
    """sum_c (d loss / dz_c) (d^2 z_c / dtheta^2) v, what Gauss-Newton leaves out.

    Args:
      outputs, loss, params, vector: as for `gauss_newton_product`.

    Returns:
      The product, like params.

    Raises:
      InputError: as `gauss_newton_product` does.

    Example:
      >>> product = residual_product(lambda w: w**2, lambda z: jnp.sum(z - 3) ** 2, 2.0, 1.0)
      >>> print(product)
      4.0
    """
    return _product(residual_loss(outputs, loss), params, vector)


def gauss_newton_losses(outputs: OutputsFn, losses: OutputLosses) -> LossFn:
    """Per-example losses whose Hessian is the Gauss-Newton part, for `make_dataset_product`.

    Args:
      outputs: `outputs(params, rest, images)` to one row for each example, in inference mode.
      losses: `losses(outputs, labels)` to one loss for each example, from its own row only.

    Returns:
      `loss_fn(params, rest, images, labels)`, as every function of a dataset here takes it.
    """

    def loss_fn(
        params: Params, rest: Rest, images: Float[Array, "B H W C"], labels: Int[Array, " B"]
    ) -> Float[Array, " B"]:
        part = gauss_newton_loss(
            lambda params: outputs(params, rest, images), lambda z: losses(z, labels)
        )
        return part(params)

    return loss_fn


def residual_losses(outputs: OutputsFn, losses: OutputLosses) -> LossFn:
    """Per-example losses whose Hessian is the rest, for `make_dataset_product`.

    Args:
      outputs, losses: as for `gauss_newton_losses`.

    Returns:
      `loss_fn(params, rest, images, labels)`.
    """

    def loss_fn(
        params: Params, rest: Rest, images: Float[Array, "B H W C"], labels: Int[Array, " B"]
    ) -> Float[Array, " B"]:
        value = outputs(params, rest, images)
        slope = jax.grad(lambda z: jnp.sum(losses(z, labels)))(jax.lax.stop_gradient(value))
        terms = jax.lax.stop_gradient(slope) * value
        return jnp.sum(terms, axis=tuple(range(1, terms.ndim)))

    return loss_fn


def _product(loss: ScalarLoss, params: Params, vector: Params) -> Params:
    return hessian_vector_product(loss, params, vector)
