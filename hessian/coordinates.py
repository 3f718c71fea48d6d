"""Exact diagonal entries of a random sample of parameters, stratified by parameter array.

    H_kk = e_k^T H e_k,      q = sum_l (p_l / p) mean of H_kk^2 over the n_l sampled of array l,

one Hessian-vector product for each parameter sampled. Drawn without replacement inside each array,
so q has no bias, and its standard error shrinks to 0 as the sample becomes all of them (Cochran
1977, (5.7)). It shares no noise with random probes, hence is a check on them, layer by layer.

Squares of diagonal entries are skewed: a few entries may hold much of the sum. An interval from a
sample that missed them is too narrow.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError

from .estimates import HessianEstimate, MeanSquare, paths_of, with_interval
from .leaves import vectors_like
from .products import Params, Product


class CoordinateSums(NamedTuple):
    """Sums over sampled parameters, in float64 on the host: all that is needed to go on.

    Attributes:
      size: p_l, parameters of each of the L arrays, in the order of `jax.tree.leaves`.
      num_sampled: n_l.
      square_sum: sum of H_kk^2.
      fourth_sum: sum of H_kk^4.
    """

    size: Int[np.ndarray, " L"]
    num_sampled: Int[np.ndarray, " L"]
    square_sum: Float[np.ndarray, " L"]
    fourth_sum: Float[np.ndarray, " L"]


def init(params: Params) -> CoordinateSums:
    """The sums before the first parameter.

    Raises:
      InputError: if params have no entries or other types than floating-point ones.
    """
    size = np.array([leaf.size for leaf in jax.tree.leaves(vectors_like(params))])
    return CoordinateSums(size, np.zeros_like(size), np.zeros(len(size)), np.zeros(len(size)))


def draw_parameters(key: Array, params: Params, count: int) -> Int[np.ndarray, "count 2"]:
    """The first `count` parameters of a run: number of the array, place in the flattened array.

    Two from each array come first. Then arrays take turns in proportion to the root of their size,
    between equal turns, best for each layer, and proportional ones, best for the sum if all layers
    are alike. Inside an array the order is random. No parameter comes twice.

    Args:
      key: of the whole run.
      params: the parameters.
      count: at most p.

    Raises:
      InputError: if count is more than p.

    Example:
      >>> params = {"a": jnp.zeros(1), "b": jnp.zeros((2, 2))}
      >>> order = draw_parameters(jax.random.key(0), params, 5)
      >>> [array for array, _ in order.tolist()]
      [0, 1, 1, 1, 1]
    """
    sizes = [leaf.size for leaf in jax.tree.leaves(vectors_like(params))]
    if count > sum(sizes):
        raise InputError(f"got {count} parameters to draw: there are only {sum(sizes)}")
    turns = []
    for array, size in enumerate(sizes):
        rank = np.arange(min(size, count))
        when = np.where(rank < 2, rank - 2, rank / math.sqrt(size))
        turns.append(np.stack([when, np.full(len(rank), array), rank], axis=1))
    every = np.concatenate(turns)
    array, rank = every[np.lexsort(every.T[[1, 0]])][:count, 1:].astype(int).T
    place = np.zeros(count, int)
    for number in np.unique(array):
        order = _permutation(key, number, sizes[number])
        place[array == number] = order[rank[array == number]]
    return np.stack([array, place], axis=1)


def _permutation(key: Array, array: int, size: int) -> Int[np.ndarray, " size"]:
    seed = np.append(np.asarray(jax.random.key_data(key)), array)
    return np.random.default_rng(seed).permutation(size)


def run(
    state: CoordinateSums,
    product: Product,
    params: Params,
    numbers: range,
    key: Array,
) -> CoordinateSums:
    """Adds many parameters.

    A parameter depends on (key, its number) only. So a run may be stopped and resumed, or dealt out
    and merged, and gives the same sums up to rounding. Never spend one number twice.

    Args:
      state: sums so far.
      product: v to H v.
      params: the parameters; only their structure, shapes and types are used.
      numbers: of the parameters in the run's order, such as `range(0, 64)`, then
          `range(64, 128)`.
      key: of the whole run.

    Raises:
      InputError: if there are fewer parameters than numbers.

    Example, all entries of a diagonal matrix:
      >>> diagonal = jnp.array([1.0, 2.0, 3.0])
      >>> state = run(
      ...     init(diagonal), lambda v: diagonal * v, diagonal, range(3), jax.random.key(0)
      ... )
      >>> print(state.square_sum, state.num_sampled)
      [14.] [3]
    """
    like = vectors_like(params)
    order = draw_parameters(key, like, max(numbers, default=-1) + 1)
    for number in numbers:
        array, place = order[number].tolist()
        basis = _basis(like, array, place)
        state = _add(state, array, float(_inner(basis, product(basis))))
    return state


def merge(one: CoordinateSums, other: CoordinateSums) -> CoordinateSums:
    """The sums over both samples together; they must be different numbers of one run.

    Raises:
      InputError: if the sums belong to other parameters.
    """
    if one.size.tolist() != other.size.tolist():
        raise InputError(
            f"cannot merge sums of different parameters: got arrays of {one.size.tolist()} and "
            f"{other.size.tolist()} entries"
        )
    total = CoordinateSums(*(a + b for a, b in zip(one, other, strict=True)))
    return total._replace(size=one.size)


def estimate(state: CoordinateSums, params: Params) -> HessianEstimate:
    """The mean square of the diagonal and of each array's share, without the diagonal.

    Args:
      state: sums over at least one parameter of each array; standard errors take two.
      params: the parameters, for the arrays' names.

    Raises:
      InputError: if an array has no parameter in the sample.
    """
    names = paths_of(params)
    is_missing = (state.num_sampled == 0) & (state.size > 0)
    missing = [name for name, is_one in zip(names, is_missing, strict=True) if is_one]
    if missing:
        raise InputError(f"an estimate needs a parameter of each array, got none of {missing}")
    rows = [_mean_square(_select(state, array)) for array in range(len(names))]
    num_sampled = int(state.num_sampled.sum())
    return HessianEstimate(
        diagonal=None,
        diagonal_standard_error=None,
        mean_square=_mean_square(state),
        layers=list(zip(names, rows, strict=True)),
        num_probes=num_sampled,
        num_products=num_sampled,
    )


def _select(state: CoordinateSums, array: int) -> CoordinateSums:
    return CoordinateSums(*(values[array : array + 1] for values in state))


def _add(state: CoordinateSums, array: int, entry: float) -> CoordinateSums:
    is_here = np.arange(len(state.size)) == array
    return state._replace(
        num_sampled=state.num_sampled + is_here,
        square_sum=state.square_sum + is_here * entry**2,
        fourth_sum=state.fourth_sum + is_here * entry**4,
    )


def _mean_square(state: CoordinateSums) -> MeanSquare:
    """q over all arrays of the state, with Satterthwaite's degrees of freedom."""
    state = CoordinateSums(*(values[state.size > 0] for values in state))
    if not len(state.size):
        return with_interval(0.0, 0.0, math.inf, 0)
    weight, count = state.size / state.size.sum(), state.num_sampled
    mean = np.where(count > 0, state.square_sum / np.maximum(count, 1), math.nan)
    # Rounding can leave a variance of zero a little below zero.
    spread = np.maximum(state.fourth_sum - count * mean**2, 0) / np.maximum(count - 1, 1)
    variance = weight**2 * spread / np.maximum(count, 1) * (1 - count / state.size)
    is_known = (count > 1) | (count == state.size)
    variance = np.where(is_known, variance, math.nan)
    q, error = float(np.sum(weight * mean)), math.sqrt(variance.sum())
    degrees = math.inf if error == 0 else _degrees_of_freedom(variance, count)
    return with_interval(q, error, degrees, int(state.size.sum()))


def _degrees_of_freedom(variance: Float[np.ndarray, " L"], count: Int[np.ndarray, " L"]) -> float:
    """Degrees of freedom of a sum of variances with n_l - 1 each (Satterthwaite 1946)."""
    return float(variance.sum() ** 2 / np.sum(variance**2 / np.maximum(count - 1, 1)))


@jax.jit
def _basis(like: Params, array: Int[Array, ""], place: Int[Array, ""]) -> Params:
    """e_k, like params."""
    leaves, structure = jax.tree.flatten(like)
    vectors = [
        ((jnp.arange(leaf.size) == place) & (number == array)).reshape(leaf.shape)
        for number, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(
        structure,
        [vector.astype(leaf.dtype) for vector, leaf in zip(vectors, leaves, strict=True)],
    )


@jax.jit
def _inner(one: Params, other: Params) -> Float[Array, ""]:
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), one, other)
    return sum(jax.tree.leaves(products), start=jnp.float32(0))
