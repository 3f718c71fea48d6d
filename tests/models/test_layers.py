import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.activations import parse_activation
from rctaf_jax.models.layers import BatchNorm, LayerSettings, batch_statistics, stages

SWISH = parse_activation("rct-af:beta=1,alpha=3")


def settings(dtype=jnp.float32):
    return LayerSettings(SWISH.function, jnp.dtype(dtype))


def variables(channels):
    rng = np.random.default_rng(0)
    row = lambda: jnp.asarray(rng.uniform(0.5, 2, channels), jnp.float32)  # noqa: E731
    return {
        "params": {"scale": row(), "bias": row()},
        "batch_stats": {"mean": row(), "var": row()},
    }


def test_batch_statistics_by_hand():
    z = jnp.array([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0]])
    mean, var = batch_statistics(z, None)
    np.testing.assert_allclose(mean, [3.0, 20.0], rtol=1e-6)
    np.testing.assert_allclose(var, [8 / 3, 200.0], rtol=1e-6)


def test_batch_statistics_survive_a_large_mean():
    """E[z^2] - mean^2 would lose all digits of a variance of 1 at a mean of 10^4."""
    z = 1e4 + jnp.tile(jnp.array([-1.0, 1.0]), 50)[:, None]
    np.testing.assert_allclose(batch_statistics(z, None)[1], [1.0], rtol=1e-3)


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_is_its_formula(train):
    z = jnp.asarray(np.random.default_rng(1).normal(2, 3, (4, 3, 2, 5)), jnp.float32)
    v = variables(5)
    y, moved = BatchNorm(settings()).apply(v, z, jnp.sin, train=train, mutable=["batch_stats"])
    running = v["batch_stats"]
    mean, var = (z.mean((0, 1, 2)), z.var((0, 1, 2))) if train else running.values()
    normalised = (z - mean) / np.sqrt(var + 1e-5)
    expected = np.sin(v["params"]["scale"] * normalised + v["params"]["bias"])
    np.testing.assert_allclose(y, expected, atol=1e-5)
    if train:
        running = {
            "mean": 0.9 * running["mean"] + 0.1 * mean,
            "var": 0.9 * running["var"] + 0.1 * var,
        }
    for key, value in running.items():
        np.testing.assert_allclose(moved["batch_stats"][key], value, rtol=1e-5)


def test_training_keeps_no_more_for_a_smooth_activation():
    """Beside channel vectors, the backward pass keeps z and z - mean, with or without sigma'."""
    z = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3, 2, 5)), jnp.float32)
    layer, v = BatchNorm(settings()), variables(5)

    def number_kept(then):
        def forward(z):
            return layer.apply(v, z, then, train=True, mutable=["batch_stats"])[0]

        kept = jax.tree.leaves(jax.vjp(forward, z)[1])
        return sum(leaf.size >= z.size for leaf in kept)

    assert number_kept(None) == number_kept(settings().activation(jnp.float32(3.0))) == 2


def test_bfloat16_statistics_are_float32():
    z = jnp.ones((512, 2, 2, 3), jnp.bfloat16) * 1.5
    layer = BatchNorm(settings(jnp.bfloat16))
    y, moved = layer.apply(variables(3), z, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert moved["batch_stats"]["mean"].dtype == jnp.float32


def test_stages():
    assert list(stages((4, 8), (2, 1))) == [
        ("stage1_block1", 4, 1),
        ("stage1_block2", 4, 1),
        ("stage2_block1", 8, 2),
    ]
