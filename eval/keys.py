"""Keys whose draws are an example's own, whatever batch it is in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from rctaf_jax.errors import InputError


def threefry_key(key: Array) -> Array:
    """The key for JAX's default implementation, made of the first two words of any other.

    Keys of `rbg` and `unsafe_rbg` draw for a whole batch at once, so that what an example gets
    depends on who else is in it.

    Example:
      >>> threefry_key(jax.random.key(7, impl="rbg")) == jax.random.key(7)
      Array(True, dtype=bool)

    Raises:
      InputError: for what is no key, such as a number.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32):
        raise InputError(f"key is {key!r}; it must be a key, such as jax.random.key(0).")
    words = jax.random.key_data(key)
    if words.ndim != 1:
        raise InputError(
            f"key has shape {key.shape}: it must be one key, such as jax.random.key(0)."
        )
    words = words[:2]
    return jax.random.wrap_key_data(words, impl="threefry2x32")
