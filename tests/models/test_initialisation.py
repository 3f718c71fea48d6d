import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax.models.initialisation import initial_values

SHAPES = {
    "params": {
        "conv": {"kernel": jnp.zeros((3, 3, 20, 50))},
        "dense": {"kernel": jnp.zeros((400, 30)), "bias": jnp.zeros(30)},
        "norm": {"scale": jnp.zeros(7), "bias": jnp.zeros(7)},
    },
    "batch_stats": {"norm": {"mean": jnp.zeros(7), "var": jnp.zeros(7)}},
}


def test_is_pytorchs_default():
    values = initial_values(jax.random.key(0), SHAPES)
    conv, dense, norm = (values["params"][k] for k in ("conv", "dense", "norm"))
    for weights, fan_in in ((conv["kernel"], 180), (dense["kernel"], 400), (dense["bias"], 400)):
        scaled = np.ravel(weights) * fan_in**0.5
        assert np.abs(scaled).max() <= 1.0
        # U(-1, 1): mean 0, standard deviation 3^-1/2; mean square 1/3, standard deviation 0.298.
        assert abs(scaled.mean()) < 4 * (3 * scaled.size) ** -0.5
        assert abs((scaled**2).mean() - 1 / 3) < 4 * 0.298 * scaled.size**-0.5
    for array, value in ((norm["scale"], 1), (norm["bias"], 0)):
        np.testing.assert_array_equal(array, value)
    statistics = values["batch_stats"]["norm"]
    np.testing.assert_array_equal(statistics["mean"], 0)
    np.testing.assert_array_equal(statistics["var"], 1)


def test_no_number_is_used_twice():
    params = initial_values(jax.random.key(0), SHAPES)["params"]
    scaled = [
        np.ravel(params["conv"]["kernel"]) * 180**0.5,
        np.ravel(params["dense"]["kernel"]) * 20,
        np.ravel(params["dense"]["bias"]) * 20,
    ]
    rounded = np.round(np.concatenate(scaled)[:3000], 5)
    # About 3000^2 / 2 / 200000 = 22 chance coincidences; reuse would give hundreds.
    assert len(np.unique(rounded)) > 2900


def test_keys_decide():
    first, again, other = (initial_values(jax.random.key(k), SHAPES)["params"] for k in (0, 0, 1))
    np.testing.assert_array_equal(first["dense"]["bias"], again["dense"]["bias"])
    assert not np.any(np.asarray(first["dense"]["bias"]) == np.asarray(other["dense"]["bias"]))


def test_eager_equals_vmap():
    keys = jax.random.split(jax.random.key(3), 2)
    stacked = jax.vmap(lambda key: initial_values(key, SHAPES))(keys)
    single = initial_values(keys[1], SHAPES)
    chosen = jax.tree.map(lambda a: a[1], stacked)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), chosen, single)
