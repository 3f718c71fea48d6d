"""Numbers with their uncertainty from the sums of `hutchinson`.

For a set of parameters with p entries and m probes, S = sum_m d_m:

    diagonal = S / m,     q = ( ||S||^2 - sum_m ||d_m||^2 ) / ( m (m - 1) p ),     rms = sqrt(q).

q has no bias, so it can come out negative when the noise is large; it is then reported so, and rms
is NaN. Sums are taken in float64 on the host, one leaf at a time.

Measured on four Hessians (perceptrons of two hidden layers with 8 neurons, at initialisation and
trained; 2,000 repetitions at m = 16 and 64, 600 at m = 256; G = 8 and 16): the 95% interval with
Student's t of G - 1 degrees of freedom covers 91 to 96%, one with the normal quantile 89 to 95%.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from rctaf_jax.errors import InputError

from .hutchinson import HutchinsonState
from .products import Params


class MeanSquare(NamedTuple):
    """The mean square of a diagonal, or of a part of it.

    Attributes:
        q: (1/p) sum_k H_kk^2, unbiased; negative values occur, see `is_negative`.
        standard_error: of q, by the jackknife over groups; NaN with fewer than 3 probes.
        interval: 95%, q -+ t standard errors, t of Student's distribution; NaN with it.
        rms: sqrt(q), NaN if q is negative.
        rms_standard_error: standard_error / (2 rms), to first order.
        is_negative: q < 0: more probes are needed before rms means anything.
        size: p.
    """

    q: float
    standard_error: float
    interval: tuple[float, float]
    rms: float
    rms_standard_error: float
    is_negative: bool
    size: int


class Estimate(NamedTuple):
    """What the probes say.

    Attributes:
        diagonal: the mean of d_m, like params, in float64 on the host. Do not square it: use
            `mean_square`.
        diagonal_standard_error: of each entry.
        mean_square: over all parameters.
        layers: one row for each parameter array: its path and its own mean square.
        num_probes: m.
    """

    diagonal: Params
    diagonal_standard_error: Params
    mean_square: MeanSquare
    layers: list[tuple[str, MeanSquare]]
    num_probes: int


class _Part(NamedTuple):
    """What one parameter array adds to q and to q without group g; only groups with probes."""

    size: int
    norm: float  # ||S||^2
    norm_without: Float[np.ndarray, " G"]  # ||S - S_g||^2
    square: Float[np.ndarray, " G"]  # sum over the group of ||d_m||^2


def estimate(state: HutchinsonState) -> Estimate:
    """The diagonal, its mean square and their standard errors.

    Args:
        state: sums over m >= 2 probes.

    Raises:
        InputError: if there are fewer than 2 probes.

    Example, H = [[2, 1], [1, 2]]:
        >>> import jax.numpy as jnp
        >>> from rctaf_jax.hessian.hutchinson import init, run
        >>> hessian = jnp.array([[2.0, 1.0], [1.0, 2.0]])
        >>> state = run(init(jnp.zeros(2)), jax.random.key(0), range(400), lambda v: hessian @ v)
        >>> low, high = estimate(state).mean_square.interval
        >>> low < 4.0 < high
        True
    """
    counts = np.asarray(state.num_probes)
    num_probes = int(counts.sum())
    if num_probes < 2:
        raise InputError(f"an estimate needs at least 2 probes, got {num_probes}")
    structure = jax.tree.structure(state.square_sum)
    paths, means, errors, parts = [], [], [], []
    for path, group_sum, group_square, square_sum in _leaves(state):
        groups = np.asarray(group_sum, np.float64)[counts > 0]
        mean = groups.sum(axis=0) / num_probes
        paths.append(path)
        means.append(mean)
        errors.append(_standard_error(mean, np.asarray(square_sum, np.float64), num_probes))
        parts.append(_summarise(groups, np.asarray(group_square, np.float64)[counts > 0]))
    counts = counts[counts > 0]
    return Estimate(
        diagonal=jax.tree.unflatten(structure, means),
        diagonal_standard_error=jax.tree.unflatten(structure, errors),
        mean_square=_mean_square(parts, counts),
        layers=[
            (path, _mean_square([part], counts)) for path, part in zip(paths, parts, strict=True)
        ],
        num_probes=num_probes,
    )


def _leaves(state: HutchinsonState) -> Iterator[tuple[str, Any, Any, Any]]:
    paths = jax.tree_util.tree_leaves_with_path(state.group_sum)
    squares = jax.tree.leaves(state.group_square)
    totals = jax.tree.leaves(state.square_sum)
    for (path, sums), square, total in zip(paths, squares, totals, strict=True):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), sums, square, total


def _standard_error(
    mean: Float[np.ndarray, "*shape"], square_sum: Float[np.ndarray, "*shape"], num_probes: int
) -> Float[np.ndarray, "*shape"]:
    # Rounding can leave a variance of zero a little below zero.
    variance = np.maximum(square_sum / num_probes - mean**2, 0)
    return np.sqrt(variance / (num_probes - 1))


def _summarise(groups: Float[np.ndarray, "G *shape"], square: Float[np.ndarray, " G"]) -> _Part:
    flat = groups.reshape(len(groups), -1)
    total = flat.sum(axis=0)
    without = np.array([np.sum((total - group) ** 2) for group in flat])
    return _Part(total.size, float(total @ total), without, square)


def _mean_square(parts: list[_Part], counts: Int[np.ndarray, " G"]) -> MeanSquare:
    size, total = sum(part.size for part in parts), counts.sum()
    norm = sum(part.norm for part in parts)
    norm_without = np.sum([part.norm_without for part in parts], axis=0)
    square = np.sum([part.square for part in parts], axis=0)
    q = float((norm - square.sum()) / (total * (total - 1) * size))
    error, rest = math.nan, total - counts
    if (rest >= 2).all():
        q_without = (norm_without - (square.sum() - square)) / (rest * (rest - 1) * size)
        error = _jackknife(q, q_without, counts)
    half = float(stdtrit(len(counts) - 1, 0.975)) * error
    rms = math.sqrt(q) if q >= 0 else math.nan
    rms_error = error / (2 * rms) if rms > 0 else math.nan
    return MeanSquare(q, error, (q - half, q + half), rms, rms_error, q < 0, size)


def _jackknife(
    value: float, without: Float[np.ndarray, " G"], counts: Int[np.ndarray, " G"]
) -> float:
    """Standard error from the values without one group at a time.

    Groups may differ in size (Busing, Meijer & van der Leeden 1999); for equal ones it is the
    familiar sqrt( (G - 1)/G sum_g (q_g - mean q)^2 ).
    """
    ratio = counts.sum() / counts
    pseudo = ratio * value - (ratio - 1) * without
    centre = len(counts) * value - np.sum((1 - 1 / ratio) * without)
    return float(np.sqrt(np.mean((pseudo - centre) ** 2 / (ratio - 1))))
