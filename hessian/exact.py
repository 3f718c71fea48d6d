"""The exact diagonal of a Hessian by basis vectors, for networks of up to some 10^4 parameters.

    H_kk = e_k^T H e_k,      one Hessian-vector product for each parameter.

For any loss and any network; the reference for everything else.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError

from .products import Loss, Params


def exact_diagonal(loss: Loss, params: Params, *, chunk_size: int = 64) -> Params:
    """The diagonal of the Hessian of a scalar function of a pytree.

    The gradient is linearised once and applied to `chunk_size` basis vectors at a time. Float32
    gives about six digits; in `jax.enable_x64` with float64 params it is exact to rounding.

    Args:
        loss: from params to a scalar, twice differentiable.
        params: where to take the Hessian; p parameters of one floating-point type.
        chunk_size: products at a time: memory is that of a gradient times this number. The result
            does not depend on it, up to rounding.

    Returns:
        H_kk, like params.

    Raises:
        InputError: if chunk_size is less than 1.

    Example:
        >>> diagonal = exact_diagonal(lambda w: w["a"] ** 3 * w["b"], {"a": 2.0, "b": 5.0})
        >>> float(diagonal["a"]), float(diagonal["b"])
        (60.0, 0.0)
    """
    if chunk_size < 1:
        raise InputError(f"chunk_size must be at least 1, got {chunk_size}")
    flat, restore = ravel_pytree(params)

    @jax.jit
    def flat_diagonal(flat: Float[Array, " p"]) -> Float[Array, " p"]:
        _, product = jax.linearize(jax.grad(lambda flat: loss(restore(flat))), flat)

        def entry(k: Int[Array, ""]) -> Float[Array, ""]:
            return product(jax.nn.one_hot(k, flat.size, dtype=flat.dtype))[k]

        return jax.lax.map(entry, jnp.arange(flat.size), batch_size=chunk_size)

    with jax.default_matmul_precision("highest"):
        return restore(flat_diagonal(flat))
