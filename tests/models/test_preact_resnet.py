import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax.models import create
from rctaf_jax.models.layers import LayerSettings
from rctaf_jax.models.preact_resnet import PreactBlock


def test_published_number_of_parameters():
    model = create("preact-resnet18", num_classes=10, activation="relu")
    shapes = jax.eval_shape(lambda key: model.init(key, (32, 32, 3)), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 11_171_146


def block_output(features, stride, x):
    """A block with zero 3x3 kernels, cubing, and a shortcut of ones."""
    settings = LayerSettings(lambda x, alpha: x**3, jnp.dtype(jnp.float32))
    block = PreactBlock(settings, features, stride)
    cube = settings.activation(None)
    variables = block.init(jax.random.key(0), x, cube, train=False)
    if "shortcut" in variables["params"]:
        variables["params"]["shortcut"]["kernel"] += 1.0
    return block.apply(variables, x, cube, train=False)


def test_identity_shortcut_skips_the_activation():
    x = jnp.linspace(-1, 1, 18).reshape(1, 3, 3, 2)
    np.testing.assert_allclose(block_output(2, 1, x), x, rtol=1e-6)


def test_projected_shortcut_takes_the_activated_input():
    x = jnp.linspace(-1, 1, 18).reshape(1, 3, 3, 2)
    normalised = x / np.sqrt(1 + 1e-5)
    expected = (normalised**3).sum(-1, keepdims=True)[:, ::2, ::2]
    np.testing.assert_allclose(block_output(1, 2, x), expected, rtol=1e-5)
