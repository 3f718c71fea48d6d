r"""What else the numbers of a sweep could have been: joint draws of every activation's mean.

A draw resamples the test images with replacement, the same for all networks, and then moves each
activation's mean as another set of seeds would,

    mean_a + s Z_a / \sqrt{n_a \chi^2_nu / nu},

with s the spread over seeds pooled over activations and nu its degrees of freedom: one activation's
draws are Student's t about its mean. Without any repeated seed s is the scatter of single networks
about smooth curves in log curvature, which says about as much, less directly. Hessian norms are
drawn in their logarithm.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from .smooth import smoother

NUM_DRAWS = 2000
LEAST_FREEDOM = 3.0
SEEDS, SCATTER = "spread over seeds", "scatter of single networks about a smooth curve"


class Noise(NamedTuple):
    """What seeds do to one network's number.

    Attributes:
      deviation, freedom: standard deviation and its degrees of freedom.
      source: where it was read off.
    """

    deviation: float
    freedom: float
    source: str


class Sample(NamedTuple):
    """Means of one quantity and draws of them; a column is an activation.

    Attributes:
      means: as measured.
      draws: what else they could have been.
      counts: networks behind each mean.
      noise: of a single network.
    """

    means: Float[np.ndarray, " G"]
    draws: Float[np.ndarray, "B G"]
    counts: Float[np.ndarray, " G"]
    noise: Noise


def find_noise(
    groups: Sequence[Mapping[int, float]],
    curves: Sequence[tuple[Sequence[int], Sequence[float]]],
) -> Noise | None:
    """The spread over seeds, or without repeated seeds the scatter about smooth curves.

    A seed sets the initial weights and the order of the data for every activation, so what it does
    to all of them alike is fitted and left out: value = activation + seed + noise. Claims compare
    activations, where it cancels; they are paired over seeds.

    Args:
      groups: an activation's values by seed.
      curves: for each family, its groups' places in `groups` and their curvatures.

    Returns:
      None if fewer than three degrees of freedom are left to tell it from.
    """
    if any(len(group) > 1 for group in groups):
        squares, freedom, source = _about_means(groups)
    else:
        squares, freedom, source = _about_curves(groups, curves)
    if freedom < LEAST_FREEDOM:
        return None
    return Noise(math.sqrt(squares / freedom), freedom, source)


def _about_means(groups: Sequence[Mapping[int, float]]) -> tuple[float, float, str]:
    """Squared residuals of activation + seed, and their degrees of freedom."""
    values = np.array([value for group in groups for value in group.values()])
    place = np.array([index for index, group in enumerate(groups) for _ in group])
    seed = np.array([seed for group in groups for seed in group])
    design = np.concatenate(
        [place[:, None] == np.unique(place), seed[:, None] == np.unique(seed)], 1
    )
    fitted, _, rank, _ = np.linalg.lstsq(design.astype(float), values)
    squares = float(np.sum((values - design @ fitted) ** 2))
    return squares, float(len(values) - rank), SEEDS


def _about_curves(
    groups: Sequence[Mapping[int, float]],
    curves: Sequence[tuple[Sequence[int], Sequence[float]]],
) -> tuple[float, float, str]:
    """Squared residuals of smooth curves through single networks, and their degrees of freedom."""
    squares = freedom = 0.0
    for places, curvatures in curves:
        values = np.array([next(iter(groups[place].values())) for place in places])
        matrix = smoother(np.asarray(curvatures), np.asarray(curvatures))
        squares += float(np.sum((values - matrix @ values) ** 2))
        # The expectation of those squares over the noise's variance; the trace alone is too large.
        freedom += float(np.sum((np.eye(len(places)) - matrix) ** 2))
    return squares, freedom, SCATTER


def draw_accuracies(
    rng: np.random.Generator,
    outcomes: Sequence[Shaped[np.ndarray, "n N"]],
    noise: Noise,
    *,
    num_draws: int = NUM_DRAWS,
) -> Sample:
    """Draws of mean accuracies.

    Args:
      rng: of the draws.
      outcomes: for each activation, which test images each of its networks has right; the same
        images in the same order everywhere.
      noise: over seeds.
      num_draws: B.
    """
    shares = np.stack([group.mean(axis=0) for group in outcomes])
    num_images = shares.shape[1]
    weights = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_draws)
    resampled = weights.astype(np.float32) @ shares.T.astype(np.float32) / num_images
    counts = np.array([len(group) for group in outcomes], float)
    return _moved(rng, shares.mean(axis=1), resampled.astype(float), counts, noise)


def draw_logarithms(
    rng: np.random.Generator,
    groups: Sequence[Sequence[float]],
    noise: Noise,
    *,
    num_draws: int = NUM_DRAWS,
) -> Sample:
    """Draws of means of values that have no test images behind them, such as log Hessian norms."""
    means = np.array([np.mean(group) for group in groups])
    counts = np.array([len(group) for group in groups], float)
    return _moved(rng, means, np.tile(means, (num_draws, 1)), counts, noise)


def _moved(
    rng: np.random.Generator,
    means: Float[np.ndarray, " G"],
    draws: Float[np.ndarray, "B G"],
    counts: Float[np.ndarray, " G"],
    noise: Noise,
) -> Sample:
    """Draws as other seeds would move them; the unknown s is one for all activations."""
    scale = np.sqrt(noise.freedom / rng.chisquare(noise.freedom, (len(draws), 1)))
    steps = noise.deviation * rng.standard_normal(draws.shape) / np.sqrt(counts) * scale
    return Sample(means, draws + steps, counts, noise)
