"""A growing orthonormal basis, and what a Hessian is inside it.

    H Q = Q T + sum_j f_j e_j^T,      T = Q^T H Q,

where the leftovers f_j are orthogonal to Q, one for each sequence of Lanczos' method that was left
off. More of a sequence is Lanczos' method on the complement of Q, from f_j / ||f_j||; another
sequence is the same from another vector. Either way the new columns meet the old ones through the
leftovers alone, so T grows without a product more than the method's own. An eigenvector s of T
gives the Ritz vector Q s, and its residual is sum_j f_j s_j.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .lanczos import FlatProduct, tridiagonalise


class Krylov(NamedTuple):
    """The basis so far.

    Attributes:
      basis: Q, as rows.
      matrix: T, in float64 on the host.
      leftovers: j and f_j.
      num_products: Hessian-vector products so far.
    """

    basis: Float[Array, "n p"]
    matrix: Float[np.ndarray, "n n"]
    leftovers: list[tuple[int, Float[Array, " p"]]]
    num_products: int


class Ritz(NamedTuple):
    """Eigenpairs of T.

    Attributes:
      values: in ascending order.
      weights: s, as columns.
      residuals: ||H Q s - theta Q s||.
    """

    values: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, "n n"]
    residuals: Float[np.ndarray, " n"]


def empty(like: Float[Array, " p"]) -> Krylov:
    """The basis without a vector."""
    return Krylov(jnp.zeros((0, like.size), like.dtype), np.zeros((0, 0)), [], 0)


def extend(
    krylov: Krylov, product: FlatProduct, start: Float[Array, " p"], num_steps: int
) -> Krylov:
    """Adds Lanczos' vectors from a start, outside the basis.

    Args:
      krylov: the basis so far.
      product: v to H v.
      start: the first vector; a leftover goes on where a sequence ended.
      num_steps: at most p - n; fewer are added where the space is exhausted.

    Raises:
      InputError: if a product is not finite.

    Example, two steps and two more make the whole space:
      >>> hessian = jnp.diag(jnp.arange(4.0))
      >>> krylov = extend(empty(jnp.zeros(4)), lambda v: hessian @ v, jnp.ones(4), 2)
      >>> krylov = extend(krylov, lambda v: hessian @ v, krylov.leftovers[-1][1], 2)
      >>> bool(np.allclose(ritz(krylov).values, [0, 1, 2, 3], atol=1e-5))
      True
    """
    basis, size = krylov.basis, len(krylov.matrix)
    added = tridiagonalise(
        lambda vector: _outside(basis, product(vector)), _outside(basis, start), num_steps
    )
    end = size + len(added.diagonal)
    matrix = np.zeros((end, end))
    matrix[:size, :size] = krylov.matrix
    matrix[size:, size:] = np.diag(added.diagonal)
    matrix[size:, size:] += np.diag(added.off_diagonal, 1) + np.diag(added.off_diagonal, -1)
    leftovers = []
    for column, leftover in krylov.leftovers:
        shares = added.basis @ leftover
        matrix[size:, column] = matrix[column, size:] = np.asarray(shares)
        leftovers.append((column, leftover - shares @ added.basis))
    leftovers.append((end - 1, added.residual))
    return Krylov(
        jnp.concatenate([basis, added.basis]),
        matrix,
        leftovers,
        krylov.num_products + added.num_products,
    )


def ritz(krylov: Krylov, *, first: int = 0) -> Ritz:
    """Eigenpairs of T, or of its part from a column on: of H on the complement of what was before.

    Args:
      krylov: the basis.
      first: the column, where a sequence began.
    """
    values, weights = np.linalg.eigh(krylov.matrix[first:, first:])
    parts = [(column - first, f) for column, f in krylov.leftovers if column >= first]
    leftovers = jnp.stack([leftover for _, leftover in parts])
    gram = np.asarray(leftovers @ leftovers.T, np.float64)
    shares = weights[[column for column, _ in parts]]
    squares = np.einsum("in,ij,jn->n", shares, gram, shares)
    return Ritz(values, weights, np.sqrt(np.maximum(squares, 0)))


@jax.jit
def _outside(basis: Float[Array, "n p"], vector: Float[Array, " p"]) -> Float[Array, " p"]:
    """The part orthogonal to the basis; twice, since once leaves errors of the size of the rest."""
    with jax.default_matmul_precision("highest"):
        for _ in range(2):
            vector = vector - (basis @ vector) @ basis
    return vector
