"""Keys whose draws are an example's own, whatever batch it is in."""

import jax
from jaxtyping import Array


def threefry_key(key: Array) -> Array:
    """The key for JAX's default implementation, made of the first two words of any other.

    Keys of `rbg` and `unsafe_rbg` draw for a whole batch at once, so that what an example gets
    depends on who else is in it.

    Example:
      >>> threefry_key(jax.random.key(7, impl="rbg")) == jax.random.key(7)
      Array(True, dtype=bool)
    """
    words = jax.random.key_data(key)[:2]
    return jax.random.wrap_key_data(words, impl="threefry2x32")
