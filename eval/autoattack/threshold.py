"""The largest threshold that a condition allows, found bit by bit.

Floating-point numbers that are not negative are ordered as their bits are, so a condition that
holds up to some number and not above it is decided one bit at a time: as many evaluations as a
number has bits, each a pass over the data. XLA:CPU's sort takes ten times as long.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_INTEGERS = {4: jnp.int32, 8: jnp.int64}


def largest_threshold(
    is_allowed: Callable[[Float[Array, "B 1"]], Bool[Array, "B 1"]], num_rows: int, dtype: Any
) -> Float[Array, "B 1"]:
    """For each row the largest number t >= 0 with is_allowed(t), and 0 where there is none.

    Numbers below the smallest normal one count as 0.

    Args:
      is_allowed: of one t for each row; where it holds for a t, it holds for every smaller one.
      num_rows: B.
      dtype: float32 or float64.

    Example:
      >>> values = jnp.array([[5.0, 1.0, 3.0]])
      >>> def has_two_above(t):
      ...     return jnp.sum(values >= t, axis=1, keepdims=True) >= 2
      >>> print(largest_threshold(has_two_above, 1, "float32"))
      [[3.]]
    """
    integer = _INTEGERS[jnp.dtype(dtype).itemsize]
    num_bits = 8 * jnp.dtype(dtype).itemsize - 1

    def decide(i: int, found: Array) -> Array:
        trial = found | jnp.left_shift(jnp.ones((), integer), num_bits - 1 - i)
        number = jax.lax.bitcast_convert_type(trial, dtype)
        # Patterns above infinity's are no numbers; nothing is allowed there.
        return jnp.where(is_allowed(number) & ~jnp.isnan(number), trial, found)

    bits = jax.lax.fori_loop(0, num_bits, decide, jnp.zeros((num_rows, 1), integer))
    found = jax.lax.bitcast_convert_type(bits, dtype)
    # Comparisons on a CPU take subnormal numbers for 0, so that one of them says nothing.
    return jnp.where(found < jnp.finfo(dtype).tiny, 0, found)
