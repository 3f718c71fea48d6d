"""Several radii in one call, against one call each and a closed form; classes; distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval import autoattack, minimal_distances, of_classes, robust_curve
from rctaf_jax.eval.autoattack.hyperplane import to_hyperplane
from rctaf_jax.threat_model import NORMS

KEY = jax.random.key(0)
RNG = np.random.default_rng(4)
IMAGES = RNG.uniform(0.1, 0.9, (25, 3, 4, 1)).astype(np.float32)
WEIGHTS = RNG.normal(size=(12, 4)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(25, 12) @ WEIGHTS, axis=1)
LABELS[:2] = (LABELS[:2] + 1) % 4
RADII = (0.01, 0.03, 0.08)


def linear(x):
    return x.reshape(len(x), -1) @ WEIGHTS


def exact_distances(norm: str) -> np.ndarray:
    """To the nearest boundary within the box, in closed form."""
    flat, found = IMAGES.reshape(25, 12), np.full(25, np.inf)
    for other in range(4):
        normal = WEIGHTS[:, LABELS] - WEIGHTS[:, [other]]
        gap = np.sum(flat * normal.T, axis=1)
        moved = to_hyperplane(flat, jnp.asarray(normal.T), jnp.asarray(gap), norm=norm)
        reached = np.abs(np.sum((flat + moved) * normal.T, axis=1)) < 1e-4
        length = np.asarray(NORMS[norm].length(moved))
        is_other = (other != LABELS) & reached
        found = np.where(is_other, np.minimum(found, np.where(gap <= 0, 0, length)), found)
    return found


def test_radius_by_radius_it_is_the_closed_form():
    sizes = []

    def watch(progress):
        sizes.append(progress.num_examples)
        assert progress.robust.sum() == pytest.approx(
            progress.robust_accuracy * len(progress.robust)
        )

    curve = robust_curve(
        linear, IMAGES, LABELS, KEY, RADII[::-1], attacks=["apgd-ce", "apgd-t"], progress=watch
    )
    distances = exact_distances("Linf")
    assert curve.epsilons == RADII
    assert np.abs(distances[:, None] - np.array(RADII)).min() > 1e-4  # nobody on an edge
    np.testing.assert_array_equal(curve.robust, [distances > radius for radius in RADII])
    expected = np.array([*RADII, np.inf])[np.searchsorted(RADII, distances)]
    np.testing.assert_array_equal(curve.broken_at, np.where(curve.correct, expected, 0))
    assert set(curve.broken_at) == {0, *RADII, np.inf}
    assert curve.correct.sum() == 23
    np.testing.assert_allclose(curve.robust_accuracy, curve.robust.mean(1))
    assert sizes[-1] < sizes[0]  # what is broken is not attacked again
    wrong = np.isfinite(curve.broken_at)
    assert (np.argmax(linear(curve.adversarial), axis=1) != LABELS)[wrong].all()
    moved = np.abs(curve.adversarial - IMAGES).max(axis=(1, 2, 3))
    assert (moved <= np.where(wrong, curve.broken_at, 0) + 1e-6).all()
    assert "robust at 0.03" in curve.summary()


def test_the_smallest_radius_is_one_calls(tmp_path):
    settings = {"attacks": ["apgd-ce"], "norm": "L2"}
    one = autoattack(linear, IMAGES, LABELS, KEY, epsilon=0.1, **settings)
    curve = robust_curve(
        linear, IMAGES, LABELS, KEY, ["0.1", 40], directory=tmp_path / "curve", **settings
    )
    np.testing.assert_array_equal(curve.robust[0], one.robust)
    assert not curve.robust[1].any()
    again = robust_curve(
        linear, IMAGES, LABELS, KEY, [0.1, 40], directory=tmp_path / "curve", **settings
    )
    np.testing.assert_array_equal(again.adversarial, curve.adversarial)
    assert sorted(path.name for path in (tmp_path / "curve").iterdir()) == [
        "epsilon-0.1",
        "epsilon-40",
    ]


def test_nobody_is_left():
    curve = robust_curve(linear, IMAGES, LABELS, KEY, [0.7, 0.8, 0.9], attacks="apgd-ce")
    assert curve.robust.shape == (3, 25)
    assert not curve.robust.any()


@pytest.mark.parametrize("radii", [[], [0.1, 0.1], ["8/255", 8 / 255]])
def test_radii_that_cannot_be(radii):
    with pytest.raises(InputError, match="expected one radius or more, each once"):
        robust_curve(linear, IMAGES, LABELS, KEY, radii)


@pytest.mark.parametrize("norm", NORMS)
def test_minimal_distances_of_a_linear_network(norm):
    """FAB steps 5% over the boundary and comes back by tenths: a bound that is nearly met."""
    found = minimal_distances(linear, IMAGES, LABELS, norm=norm, num_steps=60, batch_size=7)
    exact = exact_distances(norm)
    assert (found.distance[:2] == 0).all()
    assert (found.distance >= exact - 1e-5).all()
    assert (found.distance[2:] <= 1.06 * exact[2:] + 1e-5).all()
    lengths = np.asarray(NORMS[norm].length(jnp.asarray(found.adversarial - IMAGES)))
    np.testing.assert_allclose(lengths, found.distance, atol=1e-6)
    assert (np.argmax(linear(found.adversarial), axis=1) != LABELS).all()
    assert "median" in found.summary()


def test_distances_where_nothing_is_found():
    def constant(x):
        return jnp.where(x[:, :1, 0, 0] > 0.5, jnp.nan, 0) + jnp.array([5.0, 1.0, 0.0, 0.0])

    labels = np.zeros(25, int)
    found = minimal_distances(constant, IMAGES, labels, num_steps=3)
    np.testing.assert_array_equal(found.nonfinite, IMAGES[:, 0, 0, 0] > 0.5)
    assert np.isinf(found.distance).all()
    np.testing.assert_array_equal(found.adversarial, IMAGES)
    assert "none found for 25 of 25" in found.summary()


@pytest.mark.parametrize("change", [{"num_targets": 4}, {"num_targets": 0}, {"num_steps": 0}])
def test_distances_that_cannot_be(change):
    with pytest.raises(InputError, match="expected 1 to 3 wrong classes and at least 1 step"):
        minimal_distances(linear, IMAGES, LABELS, **change)


def test_some_classes_only():
    logits_fn, images, labels = of_classes(linear, IMAGES, LABELS, [3, 1])
    kept = np.isin(LABELS, [1, 3])
    np.testing.assert_array_equal(images, IMAGES[kept])
    np.testing.assert_array_equal(labels, np.where(LABELS[kept] == 3, 0, 1))
    np.testing.assert_allclose(logits_fn(images), linear(images)[:, [3, 1]])
    result = autoattack(logits_fn, images, labels, KEY, epsilon=0.05, attacks="apgd-ce")
    margin = linear(images)[:, 3] - linear(images)[:, 1]
    margin = np.where(labels == 0, margin, -margin)
    expected = margin > 0.05 * np.abs(WEIGHTS[:, 3] - WEIGHTS[:, 1]).sum()
    np.testing.assert_array_equal(result.robust, expected)
    assert 0 < expected.sum() < kept.sum()


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([1], "two or more indices"),
        ([1, 1], "two or more indices"),
        ([-1, 2], "two or more indices"),
        ([7, 8], "no image has a label among"),
        ([1, 9], "the network has classes 0 to 3"),
    ],
)
def test_classes_that_cannot_be(classes, message):
    def call():
        logits_fn, images, _ = of_classes(linear, IMAGES, LABELS, classes)
        logits_fn(images)

    with pytest.raises(InputError, match=message):
        call()
