import jax
import pytest

from rctaf_jax.models import create


@pytest.mark.parametrize(
    ("name", "parameters"), [("wrn-28-10", 36_479_194), ("wrn-34-10", 46_160_474)]
)
def test_published_number_of_parameters(name, parameters):
    model = create(name, num_classes=10, activation="relu")
    shapes = jax.eval_shape(lambda key: model.init(key, (32, 32, 3)), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters


def test_width_multiplies_the_factor():
    """At width 1/2, WRN-16-4 has the stages of WRN-16-2 and half the stem."""
    half = create("wrn-16-4", num_classes=10, activation="relu", width=0.5)
    shapes = jax.eval_shape(lambda key: half.init(key, (32, 32, 3)), jax.random.key(0))["params"]
    assert shapes["stem"]["kernel"].shape == (3, 3, 3, 8)
    assert shapes["stage3_block2"]["conv2"]["kernel"].shape == (3, 3, 128, 128)
