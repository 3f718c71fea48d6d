"""Agreement with the reference implementations, to 1e-4 of each array's Euclidean norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.models import create, from_torch, to_torch

TOLERANCE = 1e-4
CASES = [("resnet18_width4", "resnet18", 1 / 16), ("wrn10_1", "wrn-10-1", 1.0)]


def group(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def assert_close(value, expected):
    value, expected = np.ravel(value), np.ravel(expected)
    assert np.linalg.norm(value - expected) <= TOLERANCE * np.linalg.norm(expected)


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean()


@pytest.mark.parametrize(("file", "name", "width"), CASES)
def test_inference_equals_reference(reference, file, name, width):
    expected = reference(file)
    variables = from_torch(name, group(expected, "state/"))
    model = create(name, num_classes=10, activation="relu", width=width)

    def loss(x):
        logits, statistics = model.apply(variables, x)
        return cross_entropy(logits, expected["labels"]), (logits, statistics)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (logits, statistics)), gradient = step(jnp.asarray(expected["images"]))
    assert_close(logits, expected["logits_eval"])
    assert_close(value, expected["loss_eval"])
    assert_close(gradient, expected["input_grad_eval"])
    jax.tree.map(np.testing.assert_array_equal, statistics, variables["batch_stats"])


@pytest.mark.parametrize(("file", "name", "width"), CASES)
def test_training_equals_reference(reference, file, name, width):
    expected = reference(file)
    state = group(expected, "state/")
    variables = from_torch(name, state)
    model = create(name, num_classes=10, activation="relu", width=width)

    def loss(params):
        logits, statistics = model.apply(
            variables | {"params": params}, jnp.asarray(expected["images"]), train=True
        )
        return cross_entropy(logits, expected["labels"]), (logits, statistics)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (logits, statistics)), gradient = step(variables["params"])
    assert_close(logits, expected["logits_train"])
    assert_close(value, expected["loss_train"])
    gradients = to_torch(name, {"params": gradient})
    assert gradients.keys() == group(expected, "grad_train/").keys()
    for key, array in group(expected, "grad_train/").items():
        assert_close(gradients[key], array)
    moved = unbiased(name, state, to_torch(name, {"batch_stats": statistics}), expected["images"])
    for key, array in group(expected, "state_after_train/").items():
        assert_close(moved[key], array)


def unbiased(name, before, after, images):
    """Running variances as PyTorch moves them: the batch's times n / (n - 1), n values each."""

    def convert(key):
        if not key.endswith("running_var"):
            return after[key]
        n = len(images) * side(name, key) ** 2
        return 0.9 * before[key] + (after[key] - 0.9 * before[key]) * n / (n - 1)

    return {key: convert(key) for key in after}


def side(name, key):
    """Side of the features that the BatchNorm called `key` sees, for images of side 32."""
    if key.startswith("bn1"):
        return 8 if name.startswith("wrn") else 32
    stage = int(key.split(".")[0][-1])
    # Preactivation: a block's first BatchNorm comes before the stride.
    is_before_stride = name.startswith("wrn") and "bn1" in key and stage > 1
    return 2 ** (6 - stage) * (2 if is_before_stride else 1)


@pytest.mark.parametrize("name", ["preact-resnet18-activated", "wrn-16-2", "resnet-mini"])
def test_round_trip(name):
    model = create(name, num_classes=3, activation="rct-af:beta=1,alpha=5", width=1 / 8)
    variables = model.init(jax.random.key(0), (8, 8, 2))
    state = to_torch(name, variables)
    wrapped = {f"module.{k}": v for k, v in state.items()} | {"bn1.num_batches_tracked": 7}
    again = from_torch(name, wrapped, activation="rct-af:beta=1,alpha=5")
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_pytorchs_names_and_layout():
    model = create("preact-resnet18", num_classes=3, activation="relu", width=1 / 32)
    state = to_torch("preact-resnet18", model.init(jax.random.key(0), (8, 8, 3)))
    assert state["layer2.0.shortcut.0.weight"].shape == (4, 2, 1, 1)
    assert state["layer4.1.conv2.weight"].shape == (16, 16, 3, 3)
    assert state["linear.weight"].shape == (3, 16)
    assert "layer2.0.shortcut.1.weight" not in state


def test_misfits_are_listed():
    model = create("resnet-mini", num_classes=3, activation="relu", width=1 / 8)
    state = to_torch("resnet-mini", model.init(jax.random.key(0), (8, 8, 1)))
    state["extra"] = state.pop("bn1.weight")
    state["layer1.0.conv2.weight"] = np.zeros((2, 3, 3, 3))
    with pytest.raises(InputError) as caught:
        from_torch("resnet-mini", state)
    for words in ("missing bn1.weight", "unknown extra", "layer1.0.conv2.weight of shape (2, 3,"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "state"), [("resnet18", {"fc.weight": np.zeros((2, 3))}), ("mlp-1x4", {})]
)
def test_strangers_are_refused(name, state):
    with pytest.raises(InputError):
        from_torch(name, state)
