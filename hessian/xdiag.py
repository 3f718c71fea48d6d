"""XDiag (Epperly, Tropp & Webber 2024), in blocks of probes: the diagonal of a symmetric matrix.

A block has k vectors of signs w_1, ..., w_k. With Q_(i) an orthonormal basis of the products
H w_j, j != i,

    d = (1/k) sum_i ( diag(Q_(i) Q_(i)^T H) + w_i * (1 - Q_(i) Q_(i)^T) H w_i ),      E d = diag(H):

exact for what the other products span, and Hutchinson's estimate for the rest. H is symmetric, so
Q^T H = (H Q)^T, and the block takes 2 k Hessian-vector products: k for H W = Q R, k for H Q. The
bases without one product come from the small matrix R: Q_(i) Q_(i)^T = Q (1 - s_i s_i^T) Q^T, where
s_i is orthogonal to all columns of R but the i-th.

Blocks are independent, so they are the terms that `sums` adds up: the metric is estimated from
products **across** blocks and has no bias. Where the spectrum decays, as after training, this beats
Hutchinson's estimator by far at equal cost; on tiny networks it can be worse. The larger the
blocks the better, but an interval needs at least 3 of them.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError

from . import sums
from .hutchinson import rademacher
from .products import Params, Product
from .sums import DiagonalSums

NUM_WORKING_VECTORS = 4
"""Vectors that a block holds beside its basis."""
ROUNDING = 100
"""Times the precision: relative size of what may be rounding alone, and is taken for 0."""


def block_size_within(params: Params, *, num_bytes: int) -> int:
    """The largest block that fits into a budget of memory.

    Args:
      params: p parameters.
      num_bytes: what it may take: (k + 4) vectors, 45 MB each for a ResNet-18 in float32. The
          sums take G + 1 more, and a product's own work comes on top.

    Raises:
      InputError: if not even one vector fits.

    Example:
      >>> block_size_within(jnp.zeros(11_000_000), num_bytes=10**9)
      18
    """
    vector_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    block_size = num_bytes // vector_bytes - NUM_WORKING_VECTORS
    if block_size < 1:
        least = (NUM_WORKING_VECTORS + 1) * vector_bytes
        raise InputError(f"got {num_bytes} bytes for a block, which needs at least {least}")
    return block_size


def update(
    state: DiagonalSums, product: Product, block: int, key: Array, *, block_size: int
) -> DiagonalSums:
    """Adds one block.

    Its signs depend on (key, block, block_size) only and its group is `block` modulo G, so blocks
    may be stopped and resumed, or dealt out and merged, like Hutchinson's probes. Never spend one
    number twice, nor change the size of the blocks under one key.

    Args:
      state: sums so far, from `sums.init`; G of 4 to 16 keeps them small.
      product: v to H v, for a symmetric H.
      block: the block's number, 0, 1, ...
      key: of the whole run; another one for another estimator.
      block_size: k, at least 1.

    Returns:
      The new sums.

    Raises:
      InputError: if block_size is less than 1, or a product is not finite.

    Example, exact for a matrix of rank 1:
      >>> u = jnp.array([1.0, 2.0, 3.0])
      >>> state = sums.init(u, num_groups=2)
      >>> state = update(state, lambda v: u * (u @ v), 0, jax.random.key(0), block_size=2)
      >>> print(state.group_sum[0].round(5), state.num_products)
      [1. 4. 9.] 4
    """
    if block_size < 1:
        raise InputError(f"block_size must be at least 1, got {block_size}")

    def draw(i: int) -> Params:
        return rademacher(key, block * block_size + i, state.deviation)

    term = _term(draw, product, block_size, state.deviation)
    return sums.add(state, block, term, 2 * block_size)


def run(
    state: DiagonalSums,
    product: Product,
    blocks: range,
    key: Array,
    *,
    block_size: int,
) -> DiagonalSums:
    """Adds many blocks.

    Args:
      state: sums so far.
      product: v to H v, for a symmetric H.
      blocks: numbers of the blocks, such as `range(0, 4)`, then `range(4, 8)`.
      key: of the whole run.
      block_size: k, at least 1.

    Raises:
      InputError: as `update` does.
    """
    for block in blocks:
        state = update(state, product, block, key, block_size=block_size)
    return state


def _term(draw: Callable[[int], Params], product: Product, block_size: int, like: Params) -> Params:
    """A block's estimate of the diagonal; `draw(i)` is w_i, drawn again rather than kept.

    sum_i (Q s_i) * (H Q s_i) = sum_l (H q_l) * (Q S S^T e_l), so H Q need not be kept either.
    """
    basis, triangle = orthonormal_products(draw, product, block_size, like)
    left_out, residuals = leave_one_out(triangle)
    weights = np.eye(block_size) - left_out @ left_out.T / block_size
    term = jax.tree.map(jnp.zeros_like, like)
    for i in range(block_size):
        curvature = product(combine(basis, np.eye(block_size)[i], like))
        term = _accumulate(term, curvature, basis, weights[:, i])
        term = _accumulate(term, draw(i), basis, left_out[:, i] * residuals[i] / block_size)
    return term


def orthonormal_products(
    draw: Callable[[int], Params], product: Product, block_size: int, like: Params
) -> tuple[Float[Array, "k p"], Float[np.ndarray, "k k"]]:
    """Q (as rows) and R of H W = Q R; rows of both are zero where a product adds no direction."""
    flat = jax.eval_shape(lambda tree: ravel_pytree(tree)[0], like)
    basis, columns = jnp.zeros((block_size, flat.size), flat.dtype), []
    for i in range(block_size):
        basis, column = _extend(basis, product(draw(i)), i)
        columns.append(column)
    triangle = np.stack(jax.device_get(columns), axis=1)
    if not np.isfinite(triangle).all():
        raise InputError("a Hessian-vector product is not finite: expected finite losses")
    return basis, triangle


@functools.partial(jax.jit, donate_argnums=0)
def _extend(
    basis: Float[Array, "k p"], product: Params, i: int | Int[Array, ""]
) -> tuple[Float[Array, "k p"], Float[Array, " k"]]:
    """Makes a product orthogonal to the rows before i, its direction row i, and gives R's column.

    Twice, since once leaves errors of the size of the other rows' share. What is left below
    rounding has no direction of its own.
    """
    vector, _ = ravel_pytree(product)
    rest, column = vector, jnp.zeros(len(basis), vector.dtype)
    with jax.default_matmul_precision("highest"):
        for _ in range(2):
            shares = basis @ rest
            rest, column = rest - shares @ basis, column + shares
    length, scale = jnp.linalg.norm(rest), jnp.linalg.norm(vector)
    is_new = length > ROUNDING * jnp.finfo(vector.dtype).eps * scale
    direction = jnp.where(is_new, rest / jnp.where(is_new, length, 1), 0)
    column = column.at[i].set(jnp.where(is_new, length, 0))
    return basis.at[i].set(direction), column


def leave_one_out(
    triangle: Float[np.ndarray, "k k"],
) -> tuple[Float[np.ndarray, "k k"], Float[np.ndarray, " k"]]:
    """s_i, as columns, and s_i^T R e_i: the length of H w_i outside Q_(i).

    s_i is the i-th row of R's inverse, made a unit vector: orthogonal to every other column of R.
    If R is singular, the pseudoinverse's row is orthogonal to them only where column i is no
    combination of the others; where it is one, Q_(i) spans all products, and s_i = 0.
    """
    precision = np.finfo(triangle.dtype).eps
    triangle = triangle.astype(np.float64)
    left, values, right = np.linalg.svd(triangle)
    is_kept = values > ROUNDING * precision * values[0]
    left, values, right = left[:, is_kept], values[is_kept], right[is_kept]
    rows = left @ (right / values[:, None])
    is_alone = np.sum(right**2, axis=0) > 1 - np.sqrt(precision)
    lengths = np.linalg.norm(rows, axis=0)
    left_out = np.where(is_alone, rows / np.where(is_alone, lengths, 1), 0)
    return left_out, np.sum(left_out * triangle, axis=0)


@jax.jit
def combine(
    basis: Float[Array, "k p"], weights: Float[Array, " k"] | Float[np.ndarray, " k"], like: Params
) -> Params:
    """A combination of the basis' rows, like params."""
    with jax.default_matmul_precision("highest"):
        return ravel_pytree(like)[1](jnp.asarray(weights, basis.dtype) @ basis)


@jax.jit
def _accumulate(
    term: Params,
    factor: Params,
    basis: Float[Array, "k p"],
    weights: Float[Array, " k"] | Float[np.ndarray, " k"],
) -> Params:
    """term + factor * (a combination of the basis' rows)."""
    return jax.tree.map(lambda a, b, c: a + b * c, term, factor, combine(basis, weights, term))
