"""The spectral density of a Hessian, by stochastic Lanczos quadrature.

    phi(x) = (1/p) sum_i delta(x - lambda_i) = E sum_j w_j delta(x - t_j),

where t_j are the eigenvalues of Lanczos' tridiagonal matrix T from a vector v of independent signs,
and w_j the squares of the first entries of its eigenvectors: Gauss quadrature of v^T f(H) v / p,
exact for polynomials of degree 2 k - 1 after k products (Golub & Meurant 1994; Ghorbani, Krishnan &
Xiao 2019). Nodes and weights are kept probe by probe, a few numbers each, so what is asked of
them later (another width, a mass) takes no product, and the probes' spread is the band.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from scipy.special import ndtr

from rctaf_jax.errors import InputError

from .hutchinson import rademacher
from .lanczos import Tridiagonal, flat_product, tridiagonalise
from .leaves import count_parameters, vectors_like
from .products import Params, Product


class Quadratures(NamedTuple):
    """Nodes and weights of n probes, in float64 on the host: all that is needed to go on.

    Attributes:
      nodes: t_j of each probe.
      weights: w_j, which add up to 1 for each probe; 0 where a space was exhausted before k steps.
      num_products: Hessian-vector products that they took.
    """

    nodes: Float[np.ndarray, "n k"]
    weights: Float[np.ndarray, "n k"]
    num_products: int

    def summary(self) -> str:
        """Where the eigenvalues are, in one sentence."""
        if not len(self.nodes):
            return "No probe of the spectrum yet."
        below, error = _mean_and_error((self.weights * (self.nodes < 0)).sum(axis=1))
        return (
            f"Eigenvalues from about {self.nodes.min():.4g} to {self.nodes.max():.4g}, "
            f"{below:.3g} +- {error:.2g} of them below 0, by {self.num_products:,} "
            "Hessian-vector products."
        )


class Curve(NamedTuple):
    """A function of the eigenvalue with a band over probes.

    Attributes:
      grid: eigenvalues.
      mean: at each of them.
      standard_error: of the mean; NaN with one probe.
    """

    grid: Float[np.ndarray, " g"]
    mean: Float[np.ndarray, " g"]
    standard_error: Float[np.ndarray, " g"]


def init(*, num_steps: int = 60) -> Quadratures:
    """The state before the first probe.

    Args:
      num_steps: k, products for each probe.

    Raises:
      InputError: if num_steps is less than 1.
    """
    if num_steps < 1:
        raise InputError(f"num_steps must be at least 1, got {num_steps}")
    return Quadratures(np.zeros((0, num_steps)), np.zeros((0, num_steps)), 0)


def run(
    state: Quadratures, product: Product, params: Params, probes: range, key: Array
) -> Quadratures:
    """Adds many probes, of k products each.

    A probe depends on (key, its number) only. So a run may be stopped and resumed, or dealt out and
    merged. Never spend one number twice. Memory is k + 2 vectors, twice that while one is added.

    Args:
      state: the probes so far.
      product: v to H v, for a symmetric H.
      params: the parameters; only their structure, shapes and types are used.
      probes: numbers of the probes, such as `range(0, 20)`, then `range(20, 40)`.
      key: of the whole run.

    Raises:
      InputError: if params have no entries or other types than floating-point ones, or a product
          is not finite.

    Example, a projection onto one of four directions, by 20 probes:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> u = jnp.ones(4) / 2
      >>> probes = run(
      ...     init(num_steps=3), lambda v: u * (u @ v), jnp.zeros(4), range(20), jax.random.key(0)
      ... )
      >>> print(cumulative(probes, np.array([-1.0, 0.5, 2.0])).mean.round(1))
      [0.  0.7 1. ]
    """
    like = vectors_like(params)
    num_steps = min(state.nodes.shape[1], count_parameters(like))
    multiply = flat_product(product, like)
    nodes, weights, num_products = [*state.nodes], [*state.weights], state.num_products
    for probe in probes:
        start, _ = ravel_pytree(rademacher(key, probe, like))
        found = tridiagonalise(multiply, start, num_steps)
        row = _quadrature(found)
        room = (0, state.nodes.shape[1] - len(found.diagonal))
        nodes.append(np.pad(row[0], room, mode="edge"))
        weights.append(np.pad(row[1], room))
        num_products += found.num_products
    shape = (-1, state.nodes.shape[1])
    return Quadratures(np.reshape(nodes, shape), np.reshape(weights, shape), num_products)


def _quadrature(found: Tridiagonal) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Eigenvalues of T, and the squares of the first entries of its eigenvectors."""
    matrix = np.diag(found.diagonal) + np.diag(found.off_diagonal, -1)
    nodes, vectors = np.linalg.eigh(matrix, UPLO="L")
    return nodes, vectors[0] ** 2


def merge(one: Quadratures, other: Quadratures) -> Quadratures:
    """Both sets of probes together; they must be different ones.

    Raises:
      InputError: if they took different numbers of steps.
    """
    steps = one.nodes.shape[1], other.nodes.shape[1]
    if steps[0] != steps[1]:
        raise InputError(f"cannot merge probes of {steps[0]} and of {steps[1]} steps")
    return Quadratures(
        np.concatenate([one.nodes, other.nodes]),
        np.concatenate([one.weights, other.weights]),
        one.num_products + other.num_products,
    )


def smooth(state: Quadratures, grid: Float[np.ndarray, " g"], *, width: float) -> Curve:
    """The density with every eigenvalue a Gaussian, (1/p) sum_i N(x; lambda_i, width^2).

    Args:
      state: at least one probe.
      grid: x.
      width: the Gaussians' standard deviation. What is narrower cannot be told apart, and k steps
          resolve the inside of a spectrum to about its range over k.

    Raises:
      InputError: if there is no probe, or width is not positive and finite.
    """
    if not 0 < width < math.inf:
        raise InputError(f"width must be positive and finite, got {width}")

    def bell(distance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        return np.exp(-((distance / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))

    return _curve(state, grid, bell)


def cumulative(state: Quadratures, grid: Float[np.ndarray, " g"], *, width: float = 0.0) -> Curve:
    """The share of eigenvalues up to x.

    Args:
      state: at least one probe.
      grid: x.
      width: as for `smooth`; 0 leaves the steps.

    Raises:
      InputError: if there is no probe, or width is negative or not finite.
    """
    if not 0 <= width < math.inf:
        raise InputError(f"width must be 0 or positive, and finite, got {width}")

    def share(distance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        return ndtr(distance / width) if width else (distance >= 0).astype(float)

    return _curve(state, grid, share)


def _curve(
    state: Quadratures,
    grid: Float[np.ndarray, " g"],
    kernel: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]],
) -> Curve:
    """Each probe's weighted sum of a kernel around its nodes, and their mean and its error."""
    if not len(state.nodes):
        raise InputError("a density needs at least one probe, got none")
    grid = np.asarray(grid, np.float64)
    rows = np.stack(
        [
            kernel(grid[:, None] - nodes) @ weights
            for nodes, weights in zip(state.nodes, state.weights, strict=True)
        ]
    )
    return Curve(grid, *_mean_and_error(rows))


def _mean_and_error(rows: Float[np.ndarray, "n ..."]) -> tuple[Any, Any]:
    """Over probes; the error of one is NaN."""
    mean = rows.mean(axis=0)
    if len(rows) == 1:
        return mean, np.full_like(mean, math.nan)[()]
    return mean, rows.std(axis=0, ddof=1) / math.sqrt(len(rows))
