"""Mean and standard deviation of the pixels, and images in another order of axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.models import create

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)
SHAPE = (8, 6, 3)


def model(**settings):
    return create("resnet-mini", num_classes=4, activation="swish", width=0.25, **settings)


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(1), (5, *SHAPE))


def test_it_is_the_same_as_normalising_before(images):
    plain, own = model(), model(mean=MEAN, std=STD)
    variables = own.init(jax.random.key(0), SHAPE)
    expected, _ = plain.apply(
        {k: v for k, v in variables.items() if k != "input"},
        (images - jnp.array(MEAN)) / jnp.array(STD),
    )
    for network in (plain, own):  # with the variables', whichever model has them
        np.testing.assert_allclose(network.apply(variables, images)[0], expected, rtol=1e-5)
    without = {k: v for k, v in variables.items() if k != "input"}
    np.testing.assert_allclose(own.apply(without, images)[0], expected, rtol=1e-5)
    assert not np.allclose(plain.apply(without, images)[0], expected)
    logits, moved = own.apply(variables, images, train=True)
    assert jax.tree.structure(moved) == jax.tree.structure(variables["batch_stats"])
    assert np.isfinite(logits).all()


def test_one_number_stands_for_all_channels():
    variables = model(mean=0.5, std=[0.25]).init(jax.random.key(0), SHAPE)
    assert variables["input"]["mean"].tolist() == [0.5] * 3
    assert variables["input"]["std"].tolist() == [0.25] * 3


def test_the_variables_come_before_the_model(images):
    variables = model(mean=MEAN, std=STD).init(jax.random.key(0), SHAPE)
    other = model(mean=0.5, std=0.5)
    expected = model().apply(variables, images)[0]
    np.testing.assert_array_equal(other.apply(variables, images)[0], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": MEAN}, "mean and std belong together"),
        ({"std": 1}, "mean and std belong together"),
        ({"mean": MEAN, "std": (1, 0, 1)}, "each must be positive"),
        ({"mean": MEAN, "std": -1}, "each must be positive"),
        ({"mean": "x", "std": 1}, "mean is 'x'; it must be one or several finite numbers"),
        ({"mean": (), "std": 1}, "it must be one or several finite numbers"),
        ({"mean": float("nan"), "std": 1}, "it must be one or several finite numbers"),
        ({"mean": None, "std": (1, float("inf"))}, "mean and std belong together"),
    ],
)
def test_wrong_numbers(settings, message):
    with pytest.raises(InputError, match=message):
        model(**settings)


def test_wrong_number_of_channels(images):
    with pytest.raises(InputError, match="mean has 2 values for images of 3 channels"):
        model(mean=(0.5, 0.5), std=1).init(jax.random.key(0), SHAPE)
    variables = model().init(jax.random.key(0), SHAPE)
    with pytest.raises(InputError, match="std has 4 values for images of 3 channels"):
        model(mean=0, std=(1, 1, 1, 1)).apply(variables, images)


def test_pytorchs_order_of_axes_is_named(images):
    variables = model().init(jax.random.key(0), SHAPE)
    with pytest.raises(
        InputError, match=r"PyTorch's \(batch, channels, .* transpose\(0, 2, 3, 1\)"
    ):
        model().apply(variables, images.transpose(0, 3, 1, 2))
    with pytest.raises(InputError, match=r"so 1 channels; the network takes 3, in the last axis.$"):
        model().apply(variables, images[..., :1])
