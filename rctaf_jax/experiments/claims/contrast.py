r"""A weighted sum of activations' values, and how far chance alone would have moved it.

A seed sets the initial weights and the order of the data for every activation, so a contrast is
worked out seed by seed. Its weights add up to 0: what a seed does to all activations drops out,
and its spread is its own, however noise depends on the activation:

    c_s = \sum_a w_a x_{as},    value = mean_s c_s,    v_seeds = var_s(c_s) / n.

All networks see the same test images. Other images would move the contrast by v_images = w^T C w,
with C the covariance of the activations over images. What an image does to a single network is in
v_seeds already and taken out of C; v_seeds is at least what it makes (seeds crossed with images:
Obuchowski and Rockette 1995). The interval, and the p value that belongs to it, adds the two as

    h^2 = t_{p, n-1}^2 v_seeds + z_p^2 v_images,

which errs at most as often as stated, whatever the two variances are (Banerjee 1961). Hessian
norms are taken as logarithms, and have no test images.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LEAST_SEEDS = 2
"""One has no spread. Two have one degree of freedom: intervals of 12.7 standard errors."""
_LEAST_TAIL = 1e-9

Values = Sequence[Mapping[int, float]]
"""For each activation, its networks' values by seed."""


class ImageNoise(NamedTuple):
    """What test images do to the activations' accuracies.

    Attributes:
      shared: covariance over sets of test images, the same for all seeds.
      single: covariance, within one seed, of what images do to single networks.
    """

    shared: Float[np.ndarray, "G G"]
    single: Float[np.ndarray, "G G"]

    def rescaled(self, factor: float) -> "ImageNoise":
        """Of so many times fewer images."""
        return ImageNoise(factor * self.shared, factor * self.single)


class Estimate(NamedTuple):
    """A contrast as measured.

    Attributes:
      value: mean over seeds.
      seeds, images: variances of that mean.
      freedom: degrees of freedom of `seeds`.
    """

    value: float
    seeds: float
    images: float
    freedom: int

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95% interval."""
        half = self._half_width(0.025)
        return self.value - half, self.value + half

    def p_above(self, bound: float = 0.0) -> float:
        """How often chance alone would give so much if the truth were `bound`."""
        if self.seeds + self.images == 0:  # nothing to tell chance by
            return 1.0
        excess = self.value - bound
        tail = self._tail(abs(excess))
        return tail if excess > 0 else 1 - tail

    def is_below(self, bound: float, level: float) -> bool:
        """Whether `p_below` is at most a level, which needs no root to be found."""
        return self.seeds + self.images > 0 and bound - self.value >= self._half_width(level)

    def p_below(self, bound: float = 0.0) -> float:
        """How often chance alone would give so little if the truth were `bound`."""
        return self._replace(value=-self.value).p_above(-bound)

    def _half_width(self, tail: float) -> float:
        from scipy.special import ndtri, stdtrit  # a fifth of a second, which only verdicts pay

        t, z = float(stdtrit(self.freedom, tail)), float(ndtri(tail))
        return math.sqrt(t * t * self.seeds + z * z * self.images)

    def _tail(self, half_width: float) -> float:
        """The tail whose interval has this half width."""
        from scipy.optimize import brentq

        if half_width >= self._half_width(_LEAST_TAIL):
            return _LEAST_TAIL
        if half_width == 0:
            return 0.5
        found = brentq(lambda tail: self._half_width(tail) - half_width, _LEAST_TAIL, 0.5)
        return float(found)


def estimate_contrast(
    values: Values, weights: Mapping[int, float], images: ImageNoise | None
) -> Estimate | None:
    """A contrast over the seeds that all its activations have; None if those are too few.

    Args:
      values: an activation's values by seed.
      weights: of activations by their places, adding up to 0.
      images: None if values are not of test images.
    """
    places = [place for place, weight in weights.items() if weight]
    seeds = seeds_in_common(values, places)
    if len(seeds) < LEAST_SEEDS:
        return None
    w = np.array([weights[place] for place in places])
    by_seed = w @ np.array([[values[place][seed] for seed in seeds] for place in places])
    variance, shared = float(by_seed.var(ddof=1)), 0.0
    if images is not None:
        chosen = np.ix_(places, places)
        shared = max(float(w @ images.shared[chosen] @ w), 0.0)
        variance = max(variance, float(w @ images.single[chosen] @ w))
    return Estimate(float(by_seed.mean()), variance / len(seeds), shared, len(seeds) - 1)


def seeds_in_common(values: Values, places: Sequence[int]) -> list[int]:
    """The seeds that all these activations have."""
    return sorted(set.intersection(*(set(values[place]) for place in places)))


def image_noise(outcomes: Sequence[Mapping[int, Float[np.ndarray, " N"]]]) -> ImageNoise:
    r"""What test images do, unbiased, with an activation's seeds lost or not.

    With r_{gs} what is left of the outcomes of activation g and seed s without the means over its
    n_g seeds and over images, and n_gh the seeds that two activations share,

        single = \sum_s r_{gs} r_{hs} / (n_gh (1 - 1/n_g - 1/n_h) + n_gh^2 / (n_g n_h)) / (N - 1),
        shared = cov(means over seeds) - single n_gh / (n_g n_h),

    both over N. An activation with one seed has all of its noise in `shared`.

    Args:
      outcomes: for each activation, by seed, how right its network has each test image.
    """
    seeds = sorted(set().union(*outcomes))
    num_images = len(next(array for group in outcomes for array in group.values()))
    table = np.zeros((len(outcomes), len(seeds), num_images), np.float32)
    present = np.array([[seed in group for seed in seeds] for group in outcomes])
    for place, group in enumerate(outcomes):
        for index, seed in enumerate(seeds):
            if seed in group:
                table[place, index] = group[seed]
    counts = np.maximum(present.sum(axis=1), 1)
    means = table.sum(axis=1) / counts[:, None].astype(np.float32)
    table -= means[:, None]
    table -= table.mean(axis=2, keepdims=True)
    table *= present[..., None]
    flat = table.reshape(len(outcomes), -1)
    both = present.astype(float) @ present.T
    pairs = counts[:, None] * counts[None, :]
    freedom = both * (1 - 1 / counts[:, None] - 1 / counts[None, :]) + both**2 / pairs
    products = (flat @ flat.T).astype(float) / (num_images - 1)
    single = np.divide(products, freedom, out=np.zeros_like(products), where=freedom > 1e-9)
    shared = np.cov(means.astype(float)).reshape(single.shape) - single * both / pairs
    return ImageNoise(shared / num_images, single / num_images)
