from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    Layer,
    exact_diagonal,
    forward,
    layers_from_mlp,
    mlp_from_layers,
    neuron_diagonal,
    squared_error,
)
from rctaf_jax.losses import cross_entropy
from rctaf_jax.models import create

SWISH = parse_activation("rct-af:beta=1,alpha=5")
NUM_EXAMPLES = 9
INPUTS, TARGETS = np.split(np.random.default_rng(9).normal(size=(NUM_EXAMPLES, 7)), [4], axis=1)
LABELS = np.arange(NUM_EXAMPLES) % 3


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _network(*widths: int) -> list[Layer]:
    rng = np.random.default_rng(len(widths))
    return [
        Layer(rng.normal(size=(above, below)), rng.normal(size=above))
        for below, above in pairwise(widths)
    ]


def _quartic(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Outputs interact, and the second derivative is not constant."""
    return jnp.prod(outputs - targets, axis=-1) + jnp.sum(outputs**4, axis=-1)


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _relative(actual: Any, expected: Any) -> float:
    one, other = _flat(actual), _flat(expected)
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.mark.parametrize(
    ("widths", "losses", "targets"),
    [
        ((4, 3), _quartic, TARGETS),
        ((4, 5, 3), cross_entropy, LABELS),
        ((4, 5, 2, 3), squared_error, TARGETS),
    ],
)
def test_equals_basis_vectors(widths: tuple[int, ...], losses: Any, targets: np.ndarray) -> None:
    layers = _network(*widths)

    def loss(layers: list[Layer]) -> jax.Array:
        return losses(forward(layers, SWISH, INPUTS).pre_activations[-1], targets).mean()

    actual = neuron_diagonal(losses, layers, SWISH, INPUTS, targets)
    assert _relative(actual, exact_diagonal(loss, layers)) < 1e-14


def test_linear_regression_by_hand() -> None:
    """(1/N) sum x^2 for each weight, 1 for the bias."""
    x = jnp.array([[1.0, 2.0], [3.0, 0.0]])
    layers = [Layer(jnp.ones((1, 2)), jnp.zeros(1))]
    (diagonal,) = neuron_diagonal(squared_error, layers, SWISH, x, jnp.zeros((2, 1)))
    np.testing.assert_array_equal(diagonal.weight, [[5.0, 2.0]])
    np.testing.assert_array_equal(diagonal.bias, [1.0])


def test_any_chunk() -> None:
    layers = _network(4, 5, 3)
    whole = neuron_diagonal(cross_entropy, layers, SWISH, INPUTS, LABELS)
    for chunk_size in (1, 3):
        chunked = neuron_diagonal(
            cross_entropy, layers, SWISH, INPUTS, LABELS, chunk_size=chunk_size
        )
        assert _relative(chunked, whole) < 1e-15


def test_mean_over_examples() -> None:
    layers = _network(4, 5, 3)

    @jax.jit
    @jax.vmap
    def alone(x: jax.Array, label: jax.Array) -> list[Layer]:
        return neuron_diagonal(cross_entropy, layers, SWISH, x[None], label[None])

    mean = jax.tree.map(lambda leaf: np.mean(leaf, axis=0), alone(INPUTS, LABELS))
    assert _relative(neuron_diagonal(cross_entropy, layers, SWISH, INPUTS, LABELS), mean) < 1e-15


def test_the_mlp_of_the_library() -> None:
    model = create("mlp-1x6", num_classes=3, activation=SWISH, dtype=jnp.float64)
    variables = model.init(jax.random.key(0), (2, 2, 1))
    images = np.abs(INPUTS).reshape(-1, 2, 2, 1)

    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply({**variables, "params": params}, jnp.asarray(images))
        return cross_entropy(logits, LABELS).mean()

    layers = layers_from_mlp(variables["params"])
    assert [layer.weight.shape for layer in layers] == [(6, 4), (3, 6)]
    of_layers = neuron_diagonal(cross_entropy, layers, SWISH, np.abs(INPUTS), LABELS)
    expected = exact_diagonal(loss, variables["params"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-15),
        mlp_from_layers(of_layers),
        expected,
    )
    jax.tree.map(np.testing.assert_array_equal, mlp_from_layers(layers), variables["params"])


def test_one_program_for_all_alphas_and_weights() -> None:
    traced = []

    @jax.jit
    def diagonal(layers: list[Layer], alpha: jax.Array) -> list[Layer]:
        traced.append(alpha)
        sigma = replace(SWISH, alpha=alpha)
        return neuron_diagonal(cross_entropy, layers, sigma, INPUTS, LABELS)

    layers = _network(4, 5, 3)
    twice = jax.tree.map(lambda leaf: 2 * leaf, layers)
    for network, alpha in ((layers, 5.0), (twice, 1.0)):
        sigma = replace(SWISH, alpha=alpha)
        expected = neuron_diagonal(cross_entropy, network, sigma, INPUTS, LABELS)
        assert _relative(diagonal(network, alpha), expected) < 1e-14
    assert len(traced) == 1


def test_float32_stays_float32() -> None:
    layers, x = jax.tree.map(np.float32, (_network(4, 5, 3), INPUTS))
    shapes = jax.eval_shape(lambda: neuron_diagonal(cross_entropy, layers, SWISH, x, LABELS))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, layers)


def test_convolutions_are_refused() -> None:
    model = create("resnet-mini", num_classes=3, activation=SWISH, width=0.25)
    params = model.init(jax.random.key(0), (8, 8, 1))["params"]
    with pytest.raises(InputError, match=r"parameters dense, .*expected those of a multilayer"):
        layers_from_mlp(params)
    kernel = Layer(jnp.zeros((3, 3, 1, 4)), jnp.zeros(4))
    with pytest.raises(InputError, match="convolutions share weights"):
        neuron_diagonal(cross_entropy, [kernel], SWISH, INPUTS, LABELS)
    disguised = {"hidden1": {"kernel": kernel.weight, "bias": kernel.bias}}
    dense = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}
    with pytest.raises(InputError, match="convolutions share weights"):
        layers_from_mlp({**disguised, "dense": dense})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], r"shapes \[\]"),
        ([((5, 4), (4,))], "expected dense layers"),
        ([((5, 4), (5,)), ((3, 4), (3,))], "n_below being the n_l of the layer before"),
    ],
)
def test_shapes_that_do_not_follow(shapes: list[Any], message: str) -> None:
    layers = [Layer(np.zeros(weight), np.zeros(bias)) for weight, bias in shapes]
    with pytest.raises(InputError, match=message):
        neuron_diagonal(cross_entropy, layers, SWISH, INPUTS, LABELS)


def test_bad_input() -> None:
    layers, x = _network(4, 5, 3), INPUTS
    for inputs, targets in ((x[:, :3], LABELS), (x, LABELS[:-1]), (x[:0], LABELS[:0]), (x[0], x)):
        with pytest.raises(InputError, match=r"expected \[N, 4\] and \[N, ...\]"):
            neuron_diagonal(cross_entropy, layers, SWISH, inputs, targets)
    with pytest.raises(InputError, match="chunk_size must be at least 1, got 0"):
        neuron_diagonal(cross_entropy, layers, SWISH, x, LABELS, chunk_size=0)
    with pytest.raises(InputError, match="expected one for each, not their mean"):
        neuron_diagonal(lambda f, y: cross_entropy(f, y).mean(), layers, SWISH, x, LABELS)
