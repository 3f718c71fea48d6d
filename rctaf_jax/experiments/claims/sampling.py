r"""What else the numbers of a sweep could have been: joint draws of every activation's mean.

A network's value is modelled as

    value = activation + seed + noise,

since a seed sets the initial weights and the order of the data for every activation. The
activations' values are fitted by least squares, X the design, and drawn as other seeds and other
test images would move them,

    activation + s (X^T X)^{-1/2} Z / \sqrt{\chi^2_nu / nu} + C^{1/2} Z',

with s the spread of the noise and nu its degrees of freedom: what seeds do to one activation is
Student's t. C is the covariance of the activations over test images, which all networks share;
where every activation has every seed, the part of it that s knows already is taken out, else it
is counted twice and intervals are too wide. Too few repeated seeds, and s is the scatter of single
networks about smooth curves in log curvature, which says about as much, less directly. Hessian
norms are drawn in their logarithm, and have no test images.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from .smooth import LEAST_POINTS, smoother

NUM_DRAWS = 20_000
LEAST_FREEDOM = 3.0
SEEDS, SCATTER = "spread over seeds", "scatter of single networks about a smooth curve"

Values = Sequence[Mapping[int, float]]
"""For each activation, its networks' values by seed."""


class Noise(NamedTuple):
    """What is left of one network's number without its activation's and its seed's share.

    Attributes:
      deviation, freedom: standard deviation and its degrees of freedom.
      source: where it was read off.
    """

    deviation: float
    freedom: float
    source: str


class Effects(NamedTuple):
    """Least squares' fit of activations and seeds.

    Attributes:
      means: of the activations, at the average of the seeds.
      covariance: of the means, over the noise's variance.
      squares, freedom: residuals, and their degrees of freedom.
    """

    means: Float[np.ndarray, " G"]
    covariance: Float[np.ndarray, "G G"]
    squares: float
    freedom: float


class SampledMeans(NamedTuple):
    """Means of one quantity and draws of them; a column is an activation.

    Attributes:
      means: as fitted.
      draws: what else they could have been.
      counts: networks behind each mean.
      noise: of a single network.
    """

    means: Float[np.ndarray, " G"]
    draws: Float[np.ndarray, "B G"]
    counts: Float[np.ndarray, " G"]
    noise: Noise


def fit_effects(values: Values) -> Effects:
    """Each activation's value, seeds' shares taken out; plain means where all have all seeds.

    Where seeds cannot be told from activations (each has seeds of its own), they stay in the noise.
    """
    observed = np.array([value for group in values for value in group.values()])
    place = np.array([index for index, group in enumerate(values) for _ in group])
    seed = np.array([seed for group in values for seed in group])
    activations = (place[:, None] == np.arange(len(values))).astype(float)
    is_seed = (seed[:, None] == np.unique(seed)).astype(float)
    design = np.concatenate([activations, is_seed[:, :-1] - is_seed[:, -1:]], axis=1)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        design = activations
    fitted, *_ = np.linalg.lstsq(design, observed)
    covariance = np.linalg.inv(design.T @ design)
    num = len(values)
    return Effects(
        fitted[:num],
        covariance[:num, :num],
        float(np.sum((observed - design @ fitted) ** 2)),
        float(len(observed) - design.shape[1]),
    )


def find_noise(
    values: Values,
    effects: Effects,
    curves: Sequence[tuple[Sequence[int], Sequence[float]]],
) -> Noise | None:
    """The spread over seeds, or with too few of them the scatter about smooth curves.

    Args:
      values: an activation's values by seed.
      effects: their fit.
      curves: for each family, its places in `values` and their curvatures, rising.

    Returns:
      None if fewer than three degrees of freedom are left to tell it from.
    """
    squares, freedom, source = effects.squares, effects.freedom, SEEDS
    if freedom < LEAST_FREEDOM:
        squares, freedom, source = _about_curves(values, curves)
    if freedom < LEAST_FREEDOM:
        return None
    return Noise(math.sqrt(squares / freedom), freedom, source)


def _about_curves(
    values: Values, curves: Sequence[tuple[Sequence[int], Sequence[float]]]
) -> tuple[float, float, str]:
    """Squared residuals of smooth curves through single networks, and their degrees of freedom."""
    squares = freedom = 0.0
    for places, curvatures in curves:
        single = np.array([next(iter(values[place].values())) for place in places])
        if len(single) < LEAST_POINTS:
            continue
        matrix = smoother(np.asarray(curvatures), np.asarray(curvatures))
        squares += float(np.sum((single - matrix @ single) ** 2))
        # The expectation of those squares over the noise's variance; the trace alone is too large.
        freedom += float(np.sum((np.eye(len(places)) - matrix) ** 2))
    return squares, freedom, SCATTER


def draw_means(
    rng: np.random.Generator,
    values: Values,
    effects: Effects,
    noise: Noise,
    images: Float[np.ndarray, "G G"] | None = None,
    *,
    num_draws: int = NUM_DRAWS,
) -> SampledMeans:
    """Draws of the activations' values.

    Args:
      rng: of the draws.
      values: an activation's values by seed.
      effects: their fit.
      noise: of a network; s is one unknown for all activations.
      images: covariance over test images, from `image_covariance`.
      num_draws: B.
    """
    shape = (num_draws, len(values))
    scale = np.sqrt(noise.freedom / rng.chisquare(noise.freedom, (num_draws, 1)))
    steps = noise.deviation * scale * (rng.standard_normal(shape) @ _root(effects.covariance).T)
    if images is not None:
        steps += rng.standard_normal(shape) @ _root(images).T
    counts = np.array([len(group) for group in values], float)
    return SampledMeans(effects.means, effects.means + steps, counts, noise)


def image_covariance(
    outcomes: Sequence[Mapping[int, Shaped[np.ndarray, " N"]]],
) -> Float[np.ndarray, "G G"]:
    """Covariance of activations' accuracies over sets of test images like this one.

    Args:
      outcomes: for each activation, by seed, which test images its network has right; the same
        images in the same order everywhere.
    """
    shares = np.stack([np.mean(list(group.values()), axis=0) for group in outcomes])
    num_images = shares.shape[1]
    covariance = np.atleast_2d(np.cov(shares)) / num_images
    seeds = set(outcomes[0])
    n = len(seeds)
    if n == 1 or any(set(group) != seeds for group in outcomes):
        return covariance
    stacked = np.stack([[group[seed] for seed in seeds] for group in outcomes]).astype(float)
    centred = stacked - shares[:, None]
    # An image's luck with single networks, which the spread over seeds has in it.
    within = np.einsum("gsi,hsi->gh", centred, centred) / (n * (n - 1) * num_images**2)
    return covariance - within


def _root(covariance: Float[np.ndarray, "G G"]) -> Float[np.ndarray, "G G"]:
    """A matrix R with R R^T the covariance, negative eigenvalues (estimates have some) as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))
