"""Initial parameters, as PyTorch's defaults.

Convolution and dense weights, and the bias beside a weight: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
BatchNorm: scale 1, bias 0, running mean 0, running variance 1.

All random numbers of a network come from one draw. A draw for each parameter is the habit, but
XLA:CPU compiles each shape's generator for most of a second: 20 s for a ResNet-18.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Key

ParameterShapes = tuple[tuple[int, ...], ...]


def initial_values(key: Key[Array, ""], shapes: dict[str, Any]) -> dict[str, Any]:
    """Initial parameters and statistics of the given shapes.

    Args:
      key: one random key.
      shapes: nested dicts whose leaves have shape and dtype. A dict with a "kernel" (features
          last) is a convolution or dense layer; "scale" and "var" begin at 1, the rest at 0.

    Returns:
      The same tree with arrays.

    Example:
      >>> layer = {"kernel": jnp.zeros((3, 3, 4, 8)), "bias": jnp.zeros(8)}
      >>> drawn = initial_values(jax.random.key(0), {"conv": layer})["conv"]
      >>> bool(abs(drawn["kernel"]).max() <= 1 / 6), drawn["bias"].shape
      (True, (8,))
    """
    flat = flatten_dict(shapes)
    weights = [path for path in sorted(flat) if (*path[:-1], "kernel") in flat]
    sizes = tuple(tuple(flat[path].shape) for path in weights)
    limits = tuple(math.prod(flat[(*path[:-1], "kernel")].shape[:-1]) ** -0.5 for path in weights)
    drawn = _uniform(key, sizes, limits, flat[weights[0]].dtype)
    values = {p: jnp.full(a.shape, p[-1] in ("scale", "var"), a.dtype) for p, a in flat.items()}
    return unflatten_dict(values | dict(zip(weights, drawn, strict=True)))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _uniform(
    key: Key[Array, ""], shapes: ParameterShapes, limits: tuple[float, ...], dtype: Any
) -> list[Float[Array, "..."]]:
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    values = jax.random.uniform(key, (ends[-1],), dtype, -1, 1)
    starts = [0, *ends[:-1]]
    return [
        limit * values[start:end].reshape(shape)
        for start, end, shape, limit in zip(starts, ends, shapes, limits, strict=True)
    ]
