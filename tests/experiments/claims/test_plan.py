"""What a pilot says of verdicts to come: its spread unbiased, its prospects those of the judge."""

import math
from pathlib import Path

import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.claims import plan_claims
from rctaf_jax.experiments.claims.contrast import ImageNoise
from rctaf_jax.experiments.claims.evidence import ActivationGroup, Measured
from rctaf_jax.experiments.claims.plan import draw_study, spread_by_curvature

PILOT = Path(__file__).parents[3] / "results" / "digits"
CURVATURES = (1.0, 4.0, 7.0, 20.0)


def pilot_of(table: np.ndarray, images: ImageNoise | None = None) -> Measured:
    groups = tuple(
        ActivationGroup(f"rct-af:beta={beta}", beta, 1.0, curvature)
        for beta in (0, 1, 2)
        for curvature in CURVATURES
    )
    return Measured("pilot", groups, [dict(enumerate(map(float, row))) for row in table], images)


def test_the_spread_is_that_at_a_curvature_without_what_seeds_share():
    rng = np.random.default_rng(0)
    deviations = np.tile([0.5, 1.0, 1.0, 4.0], 3)
    found = []
    for _ in range(300):
        table = deviations[:, None] * rng.normal(size=(12, 3)) + 10 * rng.normal(size=3)
        found.append(spread_by_curvature(pilot_of(table), list(range(12))))
    mean = np.mean(found, axis=0)
    np.testing.assert_allclose(mean[3::4], 16.0, rtol=0.15)
    np.testing.assert_allclose(mean[1::4], 1.0, rtol=0.4)  # a little of the others is in it
    np.testing.assert_array_equal(mean[:4], mean[4:8])


def test_networks_to_come_have_the_pilots_means_and_spread_and_fewer_images_noise():
    rng = np.random.default_rng(1)
    table = rng.normal(size=(12, 4)) + np.arange(12.0)[:, None]
    images = ImageNoise(0.3 * np.eye(12), 0.1 * np.eye(12))
    pilot = pilot_of(table, images)
    drawn = [draw_study(pilot, 5, 2.0, rng) for _ in range(400)]
    values = np.array([[list(own.values()) for own in one.values] for one in drawn])
    np.testing.assert_allclose(values.mean(axis=(0, 2)), table.mean(axis=1), atol=0.25)
    expected = spread_by_curvature(pilot, list(range(12))) + 0.1
    np.testing.assert_allclose(values.var(axis=2, ddof=1).mean(axis=0), expected, rtol=0.15)
    shared = values.mean(axis=2).var(axis=0, ddof=1) - expected / 5
    np.testing.assert_allclose(shared, 0.6, atol=0.2)
    assert drawn[0].images is not None
    np.testing.assert_allclose(drawn[0].images.shared, 0.6 * np.eye(12))


def test_more_seeds_decide_more():
    few, many = (
        {
            (one.claim, one.subject): one.supported + one.refuted
            for one in plan_claims(PILOT, num_seeds=seeds, num_images=images, repeats=4)
        }
        for seeds, images in ((2, 100), (30, 20_000))
    )
    assert few.keys() == many.keys()
    assert math.fsum(many.values()) > 2 * math.fsum(few.values())
    assert max(many.values()) == 1.0


def test_what_no_plan_can_be_made_of(tmp_path):
    with pytest.raises(InputError, match="num_seeds = 1"):
        plan_claims(PILOT, num_seeds=1)
    with pytest.raises(InputError, match="num_images = 0"):
        plan_claims(PILOT, num_seeds=5, num_images=0)
    with pytest.raises(InputError, match="not a results folder"):
        plan_claims(tmp_path, num_seeds=5)
    with pytest.raises(InputError, match="1 seeds"):
        spread_by_curvature(pilot_of(np.zeros((12, 1))), list(range(12)))
