"""What every measure asks of a pytree and of a loss, before anything is computed."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rctaf_jax.errors import InputError

Params = Any


def check_scalar(loss: Callable[[Params], Any], params: Params) -> None:
    """Checks that a loss is one number.

    Raises:
      InputError: if it has another shape or type, or comes with other outputs.
    """
    value = jax.eval_shape(loss, params)
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise InputError(
            f"got a loss that returns {type(value).__name__}: expected one number, without further "
            "outputs"
        )
    if value.shape != ():
        raise InputError(
            f"got a loss of shape {value.shape}: expected one number, such as the mean over "
            "examples"
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise InputError(f"got a loss of type {value.dtype}: expected a floating-point number")


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
    _check_types(params)
    return jax.tree.map(jnp.asarray, params)


def count_parameters(params: Params) -> int:
    """p, the number of entries of all arrays.

    Example:
      >>> count_parameters({"a": jnp.zeros((2, 3)), "b": 1.0})
      7
    """
    return sum(math.prod(getattr(leaf, "shape", ())) for leaf in jax.tree.leaves(params))


def _check_types(params: Params) -> None:
    types = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(params)}
    size = count_parameters(params)
    if not size or not all(jnp.issubdtype(name, jnp.floating) for name in types):
        raise InputError(
            f"got params with {size} entries of types {sorted(types)}: expected at least one "
            "entry, and floating-point types only"
        )


def vectors_like(params: Params) -> Params:
    """Zeros like params, in float32 where params have fewer bits: the type of probes and sums.

    Args:
      params: the parameters, or anything of their structure, shapes and types.

    Raises:
      InputError: as `check_params` does.
    """
    _check_types(params)

    def zeros(leaf: Any) -> Float[Array, "..."]:
        dtype = jnp.promote_types(jnp.result_type(leaf), jnp.float32)
        return jnp.zeros(getattr(leaf, "shape", ()), dtype)

    return jax.tree.map(zeros, params)


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
