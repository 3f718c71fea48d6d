import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax.models import create


def test_is_its_formula():
    model = create("mlp-2x5", num_classes=3, activation="rct-af:beta=1,alpha=2")
    variables = model.init(jax.random.key(0), (2, 3, 1))
    x = jax.random.uniform(jax.random.key(1), (4, 2, 3, 1))
    y = np.asarray(x).reshape(4, 6)
    for layer in ("hidden1", "hidden2", "dense"):
        weights = variables["params"][layer]
        y = y @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"])
        if layer != "dense":
            y = y / (1 + np.exp(-2 * y))
    np.testing.assert_allclose(model.apply(variables, x)[0], y, atol=1e-6)


def test_training_changes_nothing():
    model = create("mlp-1x5", num_classes=3, activation="gelu", width=2)
    variables = model.init(jax.random.key(0), (2, 2, 1))
    assert variables["params"]["hidden1"]["kernel"].shape == (4, 10)
    x = jnp.ones((3, 2, 2, 1))
    inference, training = (
        model.apply(variables, x, train=t, axis_name=None) for t in (False, True)
    )
    np.testing.assert_array_equal(inference[0], training[0])
    assert inference[1] == training[1] == {}
