"""Sums over independent, unbiased terms of a Hessian's diagonal.

An estimator gives terms d_0, d_1, ... of the size of params, independent of one another, with
E d_m = diag(H): a term of Hutchinson's is one probe, a term of XDiag's a whole block of probes. The
squared norm of the mean of m of them is too large by the mean's variance, so the mean square of the
diagonal is estimated from products of **different** terms only,

    q = ( ||sum_m d_m||^2 - sum_m ||d_m||^2 ) / ( m (m - 1) p ),      E q = (1/p) sum_k H_kk^2.

Terms are kept as sums over groups, of which leaving one out at a time (the jackknife) gives q's
standard error. `estimates.estimate` turns the sums into numbers.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError

from .leaves import vectors_like
from .products import Params


class DiagonalSums(NamedTuple):
    """Sums over terms: all that is needed to go on, or to add the terms of another process.

    G + 1 vectors of the size of params: 45 MB each for a ResNet-18 in float32, and for a moment
    twice as many whenever a term is added.

    Attributes:
      num_terms: how many terms each group has seen, [G].
      num_products: Hessian-vector products spent on all of them.
      group_sum: sum of d_m in each group; leaves [G, ...].
      group_square: sum of ||d_m||^2 in each group, for each leaf; leaves [G].
      deviation: squared deviations of the terms from their group's mean, summed over all groups;
          leaves like params. Sums of d_m^2 would lose a small variance to rounding.
    """

    num_terms: Int[Array, " G"]
    num_products: Int[Array, ""]
    group_sum: Params
    group_square: Any
    deviation: Params


def init(params: Params, *, num_groups: int = 16) -> DiagonalSums:
    """The sums before the first term.

    Args:
      params: the parameters, or anything of their structure, shapes and types. Sums, and the
          probes that are drawn like them, are in float32 where params have fewer bits.
      num_groups: G, at least 2. The interval's degrees of freedom are G - 1, or one less than
          the number of terms where that is smaller; memory grows with G.

    Raises:
      InputError: if num_groups is less than 2, or params have no entries or other types than
          floating-point ones.
    """
    if num_groups < 2:
        raise InputError(f"num_groups must be at least 2, got {num_groups}")
    zeros = vectors_like(params)
    return DiagonalSums(
        num_terms=jnp.zeros(num_groups, jnp.int32),
        num_products=jnp.int32(0),
        group_sum=jax.tree.map(lambda x: jnp.zeros((num_groups, *x.shape), x.dtype), zeros),
        group_square=jax.tree.map(lambda x: jnp.zeros(num_groups, x.dtype), zeros),
        deviation=zeros,
    )


@jax.jit
def add(
    sums: DiagonalSums, number: int | Int[Array, ""], term: Params, num_products: int
) -> DiagonalSums:
    """Adds one term, to the group `number` modulo G.

    Args:
      sums: so far.
      number: the term's number in the whole run.
      term: d_m, like params.
      num_products: Hessian-vector products that it took.

    Example:
      >>> sums = add(init(jnp.zeros(2), num_groups=2), 3, jnp.array([1.0, 2.0]), 1)
      >>> print(sums.group_sum[1], sums.num_terms)
      [1. 2.] [0 1]
    """
    term = jax.tree.map(lambda part, total: part.astype(total.dtype), term, sums.deviation)
    group = number % len(sums.num_terms)
    count = sums.num_terms[group]

    def deviation(
        total: Float[Array, "..."], groups: Float[Array, "G ..."], term: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        # Two integers' quotient would be in float32, whatever the terms are in.
        before = count.astype(term.dtype)
        mean = groups[group] / jnp.maximum(before, 1)
        return total + (term - mean) ** 2 * (before / (before + 1))

    def add_to_group(total: Float[Array, "G ..."], part: Float[Array, "..."]) -> Array:
        return total.at[group].add(part)

    squares = jax.tree.map(lambda x: jnp.sum(x**2), term)
    return DiagonalSums(
        num_terms=sums.num_terms.at[group].add(1),
        num_products=sums.num_products + num_products,
        group_sum=jax.tree.map(add_to_group, sums.group_sum, term),
        group_square=jax.tree.map(add_to_group, sums.group_square, squares),
        deviation=jax.tree.map(deviation, sums.deviation, sums.group_sum, term),
    )


def merge(one: DiagonalSums, other: DiagonalSums) -> DiagonalSums:
    """The sums over both sets of terms together; they must be different terms.

    Raises:
      InputError: if the sums belong to other parameters or have other numbers of groups.
    """
    if _shapes(one) != _shapes(other):
        raise InputError(
            "cannot merge sums of different parameters or numbers of groups: "
            f"got {len(one.num_terms)} and {len(other.num_terms)} groups"
        )
    return _merge(one, other)


@jax.jit
def _merge(one: DiagonalSums, other: DiagonalSums) -> DiagonalSums:
    """Adds up; the distance of the means adds to the deviations (Chan, Golub & LeVeque 1983)."""

    def distance(
        a: Float[Array, "..."], n: Int[Array, ""], b: Float[Array, "..."], m: Int[Array, ""]
    ) -> Float[Array, "..."]:
        n, m = n.astype(a.dtype), m.astype(a.dtype)
        means = a / jnp.maximum(n, 1), b / jnp.maximum(m, 1)
        return n * m / jnp.maximum(n + m, 1) * (means[0] - means[1]) ** 2

    def between(a: Float[Array, "G ..."], b: Float[Array, "G ..."]) -> Float[Array, "..."]:
        return jax.vmap(distance)(a, one.num_terms, b, other.num_terms).sum(axis=0)

    apart = jax.tree.map(between, one.group_sum, other.group_sum)
    both = jax.tree.map(jnp.add, one, other)
    return both._replace(deviation=jax.tree.map(jnp.add, both.deviation, apart))


def _shapes(sums: DiagonalSums) -> tuple[Any, list[tuple[int, ...]]]:
    return jax.tree.structure(sums), [leaf.shape for leaf in jax.tree.leaves(sums)]
