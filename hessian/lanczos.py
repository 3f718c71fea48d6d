"""Lanczos' tridiagonal matrix of a Hessian, by `matfree`, one product at a time.

    H Q = Q T + r e_k^T,      Q orthonormal, T tridiagonal, r orthogonal to Q.

`matfree` compiles the product into its loop. A product over a dataset is a loop itself, over
batches and devices, and would be unrolled into that program, so here matfree's loop runs in Python
and meets the product as one opaque operation: whatever can be called on a vector will do.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matfree import decomp

from rctaf_jax.errors import InputError

from .products import Params, Product

FlatProduct = Callable[[Float[Array, " p"]], Float[Array, " p"]]

_product = Primitive("hessian_vector_product")
_product.def_abstract_eval(lambda vector, *, product: vector)


@_product.def_impl
def _call(vector: Float[Array, " p"], *, product: FlatProduct) -> Float[Array, " p"]:
    # An exhausted space leaves 0 / 0, and there is nothing to multiply.
    if not jnp.isfinite(vector[0]):
        return vector
    with jax.disable_jit(False):
        result = product(vector)
    if not jnp.isfinite(result).all():
        raise InputError("a Hessian-vector product is not finite: expected finite losses")
    return result


class Tridiagonal(NamedTuple):
    """k <= the number of steps; fewer where the Krylov space is exhausted.

    Attributes:
      basis: Q, as rows.
      diagonal: of T, in float64 on the host.
      off_diagonal: of T.
      residual: r.
      num_products: that it took.
    """

    basis: Float[Array, "k p"]
    diagonal: Float[np.ndarray, " k"]
    off_diagonal: Float[np.ndarray, " k-1"]
    residual: Float[Array, " p"]
    num_products: int


def flat_product(product: Product, like: Params) -> FlatProduct:
    """A product of trees as one of vectors, of the type that all of `like` has together."""
    flat, restore = ravel_pytree(like)

    def multiply(vector: Float[Array, " p"]) -> Float[Array, " p"]:
        return ravel_pytree(product(restore(vector)))[0].astype(flat.dtype)

    return multiply


def tridiagonalise(product: FlatProduct, start: Float[Array, " p"], num_steps: int) -> Tridiagonal:
    """Lanczos' method with full reorthogonalisation.

    It takes num_steps products and num_steps vectors of memory, twice that while one is added.

    Args:
      product: v to H v, for a symmetric H.
      start: the first vector, of any length but 0.
      num_steps: at most p.

    Raises:
      InputError: if a product is not finite.

    Example, a space of one dimension:
      >>> decomposition = tridiagonalise(lambda v: 2 * v, jnp.ones(3), 3)
      >>> print(decomposition.diagonal.round(4), decomposition.off_diagonal)
      [2.] []
    """
    # Of Arnoldi's matrix the lower half is lengths; `tridiag_sym` mixes them with the upper one,
    # which is rounding once the space is exhausted.
    arnoldi = decomp.hessenberg(num_steps, reortho="full", custom_vjp=False)
    with jax.disable_jit(), jax.default_matmul_precision("highest"):
        found = arnoldi(lambda vector: _product.bind(vector, product=product), start)
    matrix = np.asarray(found.J_small, np.float64)
    diagonal, off_diagonal = np.diag(matrix), np.diag(matrix, -1)
    length = float(jnp.linalg.norm(found.residual))
    precision = float(jnp.finfo(start.dtype).eps)
    size = _size(diagonal, np.append(off_diagonal, length), precision)
    residual = found.residual
    if size < num_steps:
        length = off_diagonal[size - 1]
        residual = length * found.Q_tall[size] if length > 0 else jnp.zeros_like(start)
    return Tridiagonal(
        basis=found.Q_tall[:size],
        diagonal=diagonal[:size],
        off_diagonal=off_diagonal[: size - 1],
        residual=residual,
        num_products=int(jnp.isfinite(found.Q_tall[:, 0]).sum()),
    )


def _size(
    diagonal: Float[np.ndarray, " k"], lengths: Float[np.ndarray, " k"], precision: float
) -> int:
    """Steps up to the first one that leaves rounding: what follows it is made of rounding, too."""
    scale = np.maximum.accumulate(np.maximum(np.abs(diagonal), np.append(0, lengths[:-1])))
    # A length of 0 is followed by 0 / 0.
    is_last = np.isnan(lengths) | (lengths <= math.sqrt(precision) * scale)
    is_last[-1] = True
    return int(np.argmax(is_last)) + 1
