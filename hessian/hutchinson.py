"""Hutchinson's estimator of a Hessian's diagonal, as a stream of probes.

With v_m a vector of independent signs, the terms are

    d_m = v_m * (H v_m),     E d_m = diag(H),     Var(d_m)_i = sum_{j != i} H_ij^2,

one Hessian-vector product each (Bekas, Kokiopoulou & Saad 2007). `sums` adds them up and
`estimates.estimate` turns the sums into numbers.
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, Int

from . import sums
from .products import Params, Product
from .sums import DiagonalSums


def update(state: DiagonalSums, product: Product, probe: int, key: Array) -> DiagonalSums:
    """Adds one probe.

    Its signs depend on (key, probe) only and its group is `probe` modulo G. So a run may be
    stopped and resumed, or dealt out to devices (device r of R takes probes r, r + R, ..., and
    `merge` adds the sums), and gives the same sums up to rounding. Never spend one number twice.

    Args:
      state: sums so far, from `sums.init`.
      product: v to H v, for example what `make_dataset_product` binds.
      probe: the probe's number, 0, 1, ...
      key: of the whole run, the same for all its probes; another one for another estimator.

    Returns:
      The new sums; nothing waits for the device.

    Example, a diagonal Hessian, exact with one probe:
      >>> import jax.numpy as jnp
      >>> diagonal = jnp.array([1.0, 2.0, 3.0])
      >>> state = sums.init(diagonal, num_groups=2)
      >>> print(update(state, lambda v: diagonal * v, 0, jax.random.key(0)).group_sum[0])
      [1. 2. 3.]
    """
    signs = rademacher(key, probe, state.deviation)
    return sums.add(state, probe, _multiply(signs, product(signs)), 1)


@jax.jit
def rademacher(key: Array, probe: int | Int[Array, ""], like: Params) -> Params:
    """Independent signs +-1 with the structure, shapes and types of `like`, from (key, probe)."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(jax.random.fold_in(key, probe), len(leaves))
    signs = [
        jax.random.rademacher(key, leaf.shape, leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, signs)


@jax.jit
def _multiply(signs: Params, product: Params) -> Params:
    return jax.tree.map(lambda a, b: a * b, signs, product)


def run(
    state: DiagonalSums,
    product: Product,
    probes: range,
    key: Array,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> DiagonalSums:
    """Adds many probes.

    Args:
      state: sums so far.
      product: v to H v.
      probes: numbers of the probes, such as `range(0, 64)`, then `range(64, 128)`.
      key: of the whole run.
      progress: called with the number of probes given to the device and their total.
    """
    for count, probe in enumerate(probes, start=1):
        state = update(state, product, probe, key)
        if progress is not None:
            progress(count, len(probes))
    return state
