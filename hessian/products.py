"""Hessian-vector products over a dataset, in minibatches.

    H v = d/dt grad L(theta + t v) at t = 0,      L(theta) = (1/N) sum_n loss_n(theta),

forward over reverse: one gradient's tangent, so its cost does not depend on H's size. L is a mean
over examples only if they do not interact: BatchNorm must be in inference mode.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rctaf_jax.batching import Batch, Images, Labels, padded_batches, pixels

Params = Any
Rest = Any
Loss = Callable[[Params], Float[Array, ""]]
Product = Callable[[Params], Params]
LossFn = Callable[
    [Params, Rest, Float[Array, "B H W C"], Int[Array, " B"]],
    Float[Array, " B"],
]


def hessian_vector_product(loss: Loss, params: Params, vector: Params) -> Params:
    """H v for the Hessian of a scalar function of a pytree.

    Args:
        loss: from params to a scalar, twice differentiable.
        params: where to take the Hessian.
        vector: v, of the structure, shapes and types of params.

    Returns:
        H v, like params.

    Example:
        >>> x = jnp.array([1.0, 2.0])
        >>> print(hessian_vector_product(lambda x: jnp.sum(x**3), x, jnp.ones(2)))
        [ 6. 12.]
    """
    _, product = jax.jvp(jax.grad(loss), (params,), (vector,))
    return product


def make_dataset_product(
    loss_fn: LossFn, *, batch_size: int
) -> Callable[[Params, Rest, Images, Labels], Product]:
    """Makes Hessian-vector products of the mean loss over a dataset.

    Minibatches are added up by their number of examples, so the result does not depend on how the
    dataset is split, up to rounding. One program, compiled once, serves all networks, datasets
    and vectors of the same shapes; it runs at the highest matmul precision.

    Args:
        loss_fn: `loss_fn(params, rest, images, labels)` to one loss per example, B of them. It
            must use BatchNorm in **inference mode**: in training mode examples interact, and there
            is no Hessian of a mean over a dataset (`checks.check_independent` finds out).
            `rest` is whatever else the network needs (statistics, alpha), and stays constant.
        batch_size: examples at a time; the last batch is padded, with weight 0.

    Returns:
        `bind(params, rest, images, labels)`, which puts the dataset on the device (uint8 stays
        uint8 there) and returns `product(vector)`. It raises `InputError` if images or labels are
        not allowed.

    Example, a linear model with the squared loss, whose Hessian is (2/N) sum x x^T:
        >>> bind = make_dataset_product(
        ...     lambda w, rest, x, y: (x.reshape(-1, 2) @ w - y) ** 2, batch_size=2
        ... )
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).reshape(3, 1, 1, 2)
        >>> product = bind(jnp.zeros(2), (), x, jnp.arange(3))
        >>> print(3 * product(jnp.array([1.0, 0.0])))
        [4. 2.]
    """
    return _make_dataset_sum(hessian_vector_product, loss_fn, batch_size)


def make_dataset_gradient(
    loss_fn: LossFn, *, batch_size: int
) -> Callable[[Params, Rest, Images, Labels], Params]:
    """Makes the gradient of the mean loss over a dataset, split as the products are.

    Args:
        loss_fn: as for `make_dataset_product`.
        batch_size: examples at a time.

    Returns:
        `gradient(params, rest, images, labels)`, like params. It raises `InputError` if images or
        labels are not allowed.
    """

    def batch_gradient(loss: Loss, params: Params, no_vector: None) -> Params:
        return jax.grad(loss)(params)

    bind = _make_dataset_sum(batch_gradient, loss_fn, batch_size)

    def gradient(params: Params, rest: Rest, images: Images, labels: Labels) -> Params:
        return bind(params, rest, images, labels)(None)

    return gradient


def _make_dataset_sum(
    term: Callable[[Loss, Params, Params], Params], loss_fn: LossFn, batch_size: int
) -> Callable[[Params, Rest, Images, Labels], Product]:
    """Adds up term(loss of a batch, params, vector), every batch's loss divided by N."""

    @jax.jit
    def add_batch(
        total: Params,
        params: Params,
        rest: Rest,
        vector: Params,
        batch: Batch,
        num_examples: Float[Array, ""],
    ) -> Params:
        def share(params: Params) -> Float[Array, ""]:
            each = loss_fn(params, rest, pixels(batch.images), batch.labels)
            chex.assert_equal_shape([each, batch.labels])
            return jnp.sum(jnp.where(batch.is_real, each, 0)) / num_examples

        with jax.default_matmul_precision("highest"):
            return jax.tree.map(jnp.add, total, term(share, params, vector))

    def bind(params: Params, rest: Rest, images: Images, labels: Labels) -> Product:
        batches = list(padded_batches(images, labels, batch_size=batch_size))

        def product(vector: Params) -> Params:
            total = jax.tree.map(jnp.zeros_like, params)
            for batch in batches:
                total = add_batch(total, params, rest, vector, batch, float(len(labels)))
            return total

        return product

    return bind
