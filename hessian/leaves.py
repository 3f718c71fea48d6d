"""What every measure asks of a pytree and of a loss, before anything is computed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rctaf_jax.errors import InputError

from .products import Params, check_scalar


def check_params(params: Params) -> Params:
    """Parameters as arrays, after a check that a Hessian exists in them.

    Args:
      params: arrays or Python's floats, p entries of floating-point types; arrays without entries
          are allowed beside others.

    Returns:
      The same tree of arrays.

    Raises:
      InputError: if there are no entries, or some are integers, booleans or complex numbers.

    Example:
      >>> check_params({"a": 2.0})["a"].shape
      ()
    """
    types = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(params)}
    size = count_parameters(params)
    if not size or not all(jnp.issubdtype(name, jnp.floating) for name in types):
        raise InputError(
            f"got params with {size} entries of types {sorted(types)}: expected at least one "
            "entry, and floating-point types only"
        )
    return jax.tree.map(jnp.asarray, params)


def count_parameters(params: Params) -> int:
    """p, the number of entries of all arrays.

    Example:
      >>> count_parameters({"a": jnp.zeros((2, 3)), "b": 1.0})
      7
    """
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(params))


def vectors_like(params: Params) -> Params:
    """Zeros like params, in float32 where params have fewer bits: the type of probes and sums.

    Raises:
      InputError: as `check_params` does.
    """
    return jax.tree.map(
        lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), check_params(params)
    )


def finite_value(loss: Callable[[Params], Any], params: Params) -> float:
    """The value of a loss, after a check that it is one finite number.

    Raises:
      InputError: if it has another shape, or is not finite.

    Example:
      >>> finite_value(lambda w: w**2, 3.0)
      9.0
    """
    check_scalar(loss, params)
    value = float(jax.jit(loss)(params))
    if not jnp.isfinite(value):
        raise InputError(f"got a loss of {value}: expected a finite number")
    return value
