import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.eval.autoattack.threshold import largest_threshold


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kth_largest_equals_sorting(dtype):
    """Ties, zeros and numbers too small to be normal (which count as 0) included."""
    values = np.abs(np.random.default_rng(0).normal(size=(50, 37)))
    values[:10, 5:20] = 0
    values[10:20] = np.round(values[10:20], 1)
    values[20] *= 1e-40
    values = values.astype(dtype)
    k = np.random.default_rng(1).integers(1, 38, (50, 1))

    def has_k_above(t):
        return jnp.sum(jnp.asarray(values) >= t, axis=1, keepdims=True) >= k

    with jax.enable_x64(dtype == np.float64):
        found = largest_threshold(has_k_above, 50, dtype)
    expected = np.take_along_axis(np.sort(values, axis=1), 37 - k, axis=1)
    expected[expected < np.finfo(dtype).tiny] = 0
    np.testing.assert_array_equal(found, expected)


def test_ends_of_the_range():
    """Never allowed: 0. Always allowed: infinity. Rows decide for themselves."""
    allowed = np.array([[False], [True]])
    found = largest_threshold(lambda t: (t <= 3.25) | allowed, 2, jnp.float32)
    np.testing.assert_array_equal(found, [[3.25], [np.inf]])
    never = largest_threshold(lambda t: t < 0, 1, jnp.float32)
    np.testing.assert_array_equal(never, [[0.0]])
