import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax.models import create
from rctaf_jax.models.layers import LayerSettings
from rctaf_jax.models.resnet import BasicBlock


def count(name, shape=(32, 32, 3)):
    model = create(name, num_classes=10, activation="relu")
    shapes = jax.eval_shape(lambda key: model.init(key, shape), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_published_number_of_parameters():
    assert count("resnet18") == 11_173_962


def test_resnet_mini_by_hand():
    stem = 9 * 1 * 16 + 2 * 16
    stage1 = 2 * (9 * 16 * 16 + 2 * 16)
    stage2 = 9 * 16 * 32 + 9 * 32 * 32 + 16 * 32 + 3 * 2 * 32
    assert count("resnet-mini", (8, 8, 1)) == stem + stage1 + stage2 + 32 * 10 + 10


def test_block_activates_after_addition():
    """With all kernels zero the block is sigma(x): a cube tells it from sigma before addition."""
    settings = LayerSettings(lambda x, alpha: x**3, jnp.dtype(jnp.float32))
    block = BasicBlock(settings, features=2, stride=1)
    x = jnp.linspace(-1, 1, 18).reshape(1, 3, 3, 2)
    cube = settings.activation(None)
    variables = block.init(jax.random.key(0), x, cube, train=False)
    np.testing.assert_allclose(block.apply(variables, x, cube, train=False), x**3, rtol=1e-6)


def test_images_need_not_be_square_and_even():
    model = create("resnet18", num_classes=10, activation="relu", width=1 / 64)
    variables = model.init(jax.random.key(0), (9, 14, 3))
    images = jnp.zeros((2, 9, 14, 3))
    assert jax.eval_shape(model.apply, variables, images)[0].shape == (2, 10)
