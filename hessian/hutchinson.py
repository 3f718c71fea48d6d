"""Hutchinson's estimator of a Hessian's diagonal, as a stream of probes.

With v_m a vector of independent signs,

    d_m = v_m * (H v_m),     E d_m = diag(H),     Var(d_m)_i = sum_{j != i} H_ij^2.

The squared norm of the mean of m probes is too large by ||offdiag(H)||_F^2 / m, so the mean square
of the diagonal is estimated from products of **different** probes only,

    q = ( ||sum_m d_m||^2 - sum_m ||d_m||^2 ) / ( m (m - 1) p ),      E q = (1/p) sum_k H_kk^2.

Probes are kept as sums over groups, of which leaving one out at a time (the jackknife) gives q's
standard error. `estimates.estimate` turns the sums into numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError

from .products import Params, Product


class HutchinsonState(NamedTuple):
    """Sums over probes: all that is needed to go on, or to add the probes of other devices.

    G + 1 vectors of the size of params: 45 MB each for a ResNet-18 in float32.

    Attributes:
        num_probes: how many probes each group has seen, [G].
        group_sum: sum of d_m in each group; leaves [G, ...].
        group_square: sum of ||d_m||^2 in each group, for each leaf; leaves [G].
        square_sum: sum of d_m^2 over all groups, entry by entry; leaves like params.
    """

    num_probes: Int[Array, " G"]
    group_sum: Params
    group_square: Any
    square_sum: Params


def init(params: Params, *, num_groups: int = 16) -> HutchinsonState:
    """The state before the first probe.

    Args:
        params: the parameters, or anything of their structure, shapes and types.
        num_groups: G, at least 2. The interval's degrees of freedom are G - 1; memory grows
            with G.

    Raises:
        InputError: if num_groups is less than 2.
    """
    if num_groups < 2:
        raise InputError(f"num_groups must be at least 2, got {num_groups}")
    return HutchinsonState(
        num_probes=jnp.zeros(num_groups, jnp.int32),
        group_sum=jax.tree.map(lambda x: jnp.zeros((num_groups, *x.shape), x.dtype), params),
        group_square=jax.tree.map(lambda x: jnp.zeros(num_groups, x.dtype), params),
        square_sum=jax.tree.map(jnp.zeros_like, params),
    )


def update(state: HutchinsonState, key: Array, probe: int, product: Product) -> HutchinsonState:
    """Adds one probe.

    Its signs depend on (key, probe) only and its group is `probe` modulo G. So a run may be
    stopped and resumed, or dealt out to devices (device r of R takes probes r, r + R, ..., and
    `merge` adds the states), and gives the same sums up to rounding. Never spend one number twice.

    Args:
        state: sums so far.
        key: of the whole run, the same for all its probes.
        probe: the probe's number, 0, 1, ...
        product: v to H v, for example what `make_dataset_product` binds.

    Returns:
        The new sums; nothing waits for the device.

    Example, a diagonal Hessian, exact with one probe:
        >>> state = init(jnp.zeros(3), num_groups=2)
        >>> diagonal = jnp.array([1.0, 2.0, 3.0])
        >>> print(update(state, jax.random.key(0), 0, lambda v: diagonal * v).group_sum[0])
        [1. 2. 3.]
    """
    signs = rademacher(key, probe, state.square_sum)
    return _absorb(state, probe, signs, product(signs))


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
def _absorb(
    state: HutchinsonState, probe: Int[Array, ""], signs: Params, products: Params
) -> HutchinsonState:
    group = probe % len(state.num_probes)
    terms = jax.tree.map(jnp.multiply, signs, products)

    def add(total: Float[Array, "G ..."], part: Float[Array, "..."]) -> Float[Array, "G ..."]:
        return total.at[group].add(part)

    squares = jax.tree.map(jnp.square, terms)
    return HutchinsonState(
        num_probes=state.num_probes.at[group].add(1),
        group_sum=jax.tree.map(add, state.group_sum, terms),
        group_square=jax.tree.map(add, state.group_square, jax.tree.map(jnp.sum, squares)),
        square_sum=jax.tree.map(jnp.add, state.square_sum, squares),
    )


def run(
    state: HutchinsonState,
    key: Array,
    probes: range,
    product: Product,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> HutchinsonState:
    """Adds many probes.

    Args:
        state: sums so far.
        key: of the whole run.
        probes: numbers of the probes, such as `range(0, 64)`, then `range(64, 128)`.
        product: v to H v.
        progress: called with the number of probes given to the device and their total.
    """
    for count, probe in enumerate(probes, start=1):
        state = update(state, key, probe, product)
        if progress is not None:
            progress(count, len(probes))
    return state


def merge(one: HutchinsonState, other: HutchinsonState) -> HutchinsonState:
    """The state of both sets of probes together; they must be different probes.

    Raises:
        InputError: if the states belong to other parameters or have other numbers of groups.
    """
    if _shapes(one) != _shapes(other):
        raise InputError(
            "cannot merge states of different parameters or numbers of groups: "
            f"got {len(one.num_probes)} and {len(other.num_probes)} groups"
        )
    return jax.tree.map(jnp.add, one, other)


def _shapes(state: HutchinsonState) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(state), [leaf.shape for leaf in jax.tree.leaves(state)]
