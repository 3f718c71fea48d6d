"""How likely each claim is to be decided, before anything is trained.

The pilot's means are taken for the truth, which they are not: what a small pilot takes for a
difference may be chance. Networks to come are drawn with the pilot's spread at their curvature,
without what a seed does to all, and with what so many test images do; then they are judged.
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.grouping import grouped
from rctaf_jax.experiments.results.studies import open_studies

from .contrast import LEAST_SEEDS
from .evidence import Evidence, Measured
from .registry import CLAIMS, evidence_of
from .verdict import REFUTED, SUPPORTED, Finding


class Prospect(NamedTuple):
    """One finding that is to come.

    Attributes:
      claim, study, subject: as in `Finding`.
      supported, refuted: how likely each verdict is.
    """

    claim: str
    study: str
    subject: str
    supported: float
    refuted: float


def plan_claims(
    folder: str | os.PathLike[str],
    *,
    num_seeds: int,
    num_images: int | None = None,
    repeats: int = 100,
    seed: int = 0,
) -> list[Prospect]:
    """How likely so many seeds and test images are to decide each claim.

    Args:
      folder: a pilot, of `rctaf sweep` or `rctaf reproduce`: two seeds or more of everything.
      num_seeds: of each activation.
      num_images: test images; as many as the pilot's if None.
      repeats: how many studies are drawn.
      seed: of the draws.

    Raises:
      InputError: if `folder` is no results folder or has one seed, or a number cannot be.
    """
    if num_seeds < LEAST_SEEDS or repeats < 1 or (num_images is not None and num_images < 1):
        raise InputError(
            f"num_seeds = {num_seeds}, num_images = {num_images}, repeats = {repeats}: there must "
            f"be at least {LEAST_SEEDS} seeds, an image and a repeat."
        )
    studies = open_studies(folder)
    factors = {
        study.title: 1.0 if num_images is None else study.results.data["num_test"] / num_images
        for study in studies
    }
    evidence, rng = evidence_of(studies), np.random.default_rng(seed)
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for claim in CLAIMS:
        for pilot in evidence[claim.quantity]:
            if not isinstance(pilot, Evidence):
                continue
            for _ in range(repeats):
                drawn = draw_study(pilot.surviving, num_seeds, factors[pilot.surviving.study], rng)
                answer = claim.find(claim.name, drawn)
                for found in answer if isinstance(answer, list) else ():
                    counts.setdefault(_key(found), Counter())[found.verdict] += 1
    return [
        Prospect(*key, found[SUPPORTED] / found.total(), found[REFUTED] / found.total())
        for key, found in counts.items()
    ]


def _key(found: Finding) -> tuple[str, str, str]:
    # Which other beta is nearest to beta 2 differs from draw to draw.
    subject = "β = 2" if found.subject.startswith("β = 2") else found.subject
    return found.claim, found.study, subject


def draw_study(
    pilot: Measured, num_seeds: int, factor: float, rng: np.random.Generator
) -> Measured:
    """Networks to come: the pilot's means and spread, so many times fewer test images."""
    known = [place for place, own in enumerate(pilot.values) if own]
    variances = spread_by_curvature(pilot, known)
    shift = np.zeros(len(known))
    images = pilot.images
    if images is not None:
        single = np.diag(images.single)[known]
        variances = np.maximum(variances - single, 0.0) + factor * single
        images = images.rescaled(factor)
        shift = _root(images.shared[np.ix_(known, known)]) @ rng.standard_normal(len(known))
    means = np.array([pilot.mean({place: 1.0}) for place in known]) + shift
    noise = rng.standard_normal((len(known), num_seeds))
    table = means[:, None] + np.sqrt(variances)[:, None] * noise
    values = dict(zip(known, table, strict=True))
    drawn = [dict(enumerate(map(float, values.get(p, [])))) for p in range(len(pilot.groups))]
    return pilot._replace(values=drawn, images=images)


def spread_by_curvature(pilot: Measured, places: Sequence[int]) -> Float[np.ndarray, " k"]:
    """Variance of one network without its activation's and its seed's share, pooled over betas."""
    seeds = set().union(*(pilot.values[place] for place in places))
    whole = [place for place in places if set(pilot.values[place]) == seeds]
    if len(seeds) < 2 or len(whole) < 2:
        raise InputError(
            f"{pilot.study} has {len(seeds)} seeds and {len(whole)} activations with all of them: "
            "a pilot must have two of both."
        )
    table = np.array([[pilot.values[place][seed] for seed in sorted(seeds)] for place in whole])
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    freedom = (len(seeds) - 1) * (len(whole) - 1) / len(whole)
    own = dict(zip(whole, np.sum(rest**2, axis=1) / freedom, strict=True))
    at = grouped(whole, lambda place: round(pilot.groups[place].curvature, 6))
    pooled = {curvature: np.mean([own[place] for place in same]) for curvature, same in at.items()}
    overall = float(np.mean(list(own.values())))
    return np.array([pooled.get(round(pilot.groups[p].curvature, 6), overall) for p in places])


def _root(covariance: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """A matrix R with R R^T the covariance, negative eigenvalues (estimates have some) as 0."""
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0.0))
    return root
