"""Seconds until a gradient of a network is compiled and run: its weights closed over, or lifted.

The same function of images, a matrix product with weights of some megabytes, is compiled with the
weights as constants and with `rctaf_jax.closed_over.Lifted`, which makes them arguments.
"""

import argparse
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from harness import save, start
from jaxtyping import Array
from rich.console import Console

from rctaf_jax.closed_over import Lifted

PIXELS = 1000


def seconds(run: Callable[[], Array]) -> float:
    """Wall seconds, the result waited for."""
    since = time.perf_counter()
    run().block_until_ready()
    return time.perf_counter() - since


def main() -> None:
    """Compile and run both ways, and write the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[4, 52, 104, 400])
    megabytes = parser.parse_args().megabytes
    jax.config.update("jax_enable_compilation_cache", False)
    console, result = Console(), start(megabytes=megabytes)
    rng, x = np.random.default_rng(0), jnp.ones((8, PIXELS))
    rows = []
    for size in megabytes:
        weights = jnp.asarray(rng.normal(size=(size * 250_000 // PIXELS, PIXELS)), jnp.float32)

        def loss(x: Array, weights: Array = weights) -> Array:
            return jnp.sum(jnp.tanh(x @ weights.T))

        ask = Lifted(lambda _, x, loss=loss: loss(x))
        plain, gradient = jax.jit(jax.grad(loss)), jax.jit(jax.grad(ask, argnums=1))
        as_constants = seconds(functools.partial(plain, x))
        as_arguments = seconds(functools.partial(gradient, ask.with_arrays((), x), x))
        rows.append({"megabytes": size, "constants": as_constants, "lifted": as_arguments})
        console.print(f"{size} MB: constants {as_constants:.2f} s, lifted {as_arguments:.2f} s")
    result["seconds"] = rows
    save("closed_over_weights", result, console)


if __name__ == "__main__":
    main()
