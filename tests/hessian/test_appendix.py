"""The appendix's formulas against autodiff, and the sizes of the error of (27).

Networks of the error table: 8 inputs, hidden layers of 16, one output, 32 examples, the loss
(1/2) (f - y)^2. Weights are normal with variance 2 / fan-in, biases with variance 1/4, inputs and
targets with variance 1; seeds 0 to 4, of which medians are taken.
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    HiddenTerms,
    Layer,
    appendix_diagonal,
    forward,
    full_matrix_recursion,
    hidden_terms,
    neuron_diagonal,
    paper_recursion,
    path_sum,
    single_hidden_layer_diagonal,
    squared_error,
)
from rctaf_jax.hessian.appendix_terms import Recursion
from rctaf_jax.losses import cross_entropy

SOFTPLUS = parse_activation("rct-af:beta=0,alpha=1")
SHARP = parse_activation("rct-af:beta=2,alpha=5")
NUM_EXAMPLES, NUM_INPUTS, WIDTH = 32, 8, 16

Layers = list[Layer]
Terms = list[HiddenTerms]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _draw(seed: int, *widths: int) -> tuple[Layers, np.ndarray, np.ndarray]:
    """A network, its inputs and its targets."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(widths))
    weights = [rng.normal(size=(above, below)) * (2 / below) ** 0.5 for below, above in pairs]
    biases = [rng.normal(size=above) / 2 for _, above in pairs]
    x = rng.normal(size=(NUM_EXAMPLES, widths[0]))
    y = rng.normal(size=(NUM_EXAMPLES, widths[-1]))
    return list(map(Layer, weights, biases)), x, y


def _deep(seed: int, depth: int) -> tuple[Layers, np.ndarray, np.ndarray]:
    return _draw(seed, NUM_INPUTS, *[WIDTH] * depth, 1)


def _five(depth: int) -> Any:
    """Networks, inputs and targets of five seeds, stacked."""
    return jax.tree.map(
        lambda *leaves: np.stack(leaves), *(_deep(seed, depth) for seed in range(5))
    )


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def _relative(actual: Any, expected: Any) -> float:
    one, other = _flat(actual), _flat(expected)
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@functools.partial(jax.jit, static_argnums=1)
def _terms(layers: Layers, sigma: Activation, x: jax.Array) -> Terms:
    """Those of f itself: its first output has the seed 1."""
    z = forward(layers, sigma, x).pre_activations
    return hidden_terms(layers, sigma, z, jnp.eye(z[-1].shape[-1])[0])


def _diagonals(depth: int, alphas: tuple[float, ...]) -> Any:
    """By neurons, full matrix and recursion, of five seeds; leaves [alpha, seed, ...]."""

    @jax.jit
    def diagonals(alpha: jax.Array, network: Any) -> Any:
        sigma = replace(SOFTPLUS, alpha=alpha)

        def each(layers: Layers, x: jax.Array, y: jax.Array) -> Any:
            exact = neuron_diagonal(squared_error, layers, sigma, x, y)
            full, paper = (
                appendix_diagonal(recursion, squared_error, layers, sigma, x, y).total
                for recursion in (full_matrix_recursion, paper_recursion)
            )
            return exact, full, paper

        return jax.vmap(each)(*network)

    return [[_pick(diagonals(alpha, _five(depth)), seed) for seed in range(5)] for alpha in alphas]


def _pick(tree: Any, seed: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf[seed]), tree)


@pytest.mark.parametrize("depth", [1, 2])
def test_one_and_two_hidden_layers_are_exact(depth: int) -> None:
    for of_seeds in _diagonals(depth, (1.0, 5.0, 20.0)):
        assert np.median([_relative(full, exact) for exact, full, _ in of_seeds]) < 6e-15
        assert np.median([_relative(paper, exact) for exact, _, paper in of_seeds]) < 6e-15


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(3, {1.0: 6.1e-3, 5.0: 2.8e-2, 20.0: 3.4e-2}), (4, {20.0: 9.6e-2}), (6, {20.0: 2.6e-1})],
)
def test_size_of_the_error_below_the_last_two_hidden_layers(
    depth: int, expected: dict[float, float]
) -> None:
    """The scalar metric does not show it: it moves by a few per cent at most."""
    for of_seeds, size in zip(_diagonals(depth, tuple(expected)), expected.values(), strict=True):
        assert np.median([_relative(full, exact) for exact, full, _ in of_seeds]) < 1.5e-14
        errors = [_relative(paper, exact) for exact, _, paper in of_seeds]
        assert size / 2 < np.median(errors) < 2 * size
        metric = [np.linalg.norm(_flat(p)) / np.linalg.norm(_flat(e)) for e, _, p in of_seeds]
        assert np.median(np.abs(np.array(metric) - 1)) < 0.026
        for exact, _, paper in of_seeds:
            by_layer = [_relative(p, e) for p, e in zip(paper, exact, strict=True)]
            assert max(by_layer[-3:]) < 1e-13
            assert min(by_layer[:-3]) > 1e-3


def test_second_derivatives_layer_by_layer() -> None:
    """D against autodiff; the paper's is right in the last two hidden layers and wrong below."""
    layers, x, _ = _deep(0, 4)
    sigma = parse_activation("rct-af:beta=0,alpha=5")

    @jax.jit
    @jax.vmap
    def of_one(x: jax.Array) -> list[jax.Array]:
        """The entries of the biases for the loss f and one example."""
        losses = neuron_diagonal(lambda f, y: f[:, 0], layers, sigma, x[None], x[None])
        return [layer.bias for layer in losses[:-1]]

    expected, terms = of_one(x), _terms(layers, sigma, x)
    full, paper = (jax.jit(method)(terms) for method in (full_matrix_recursion, paper_recursion))
    assert max(map(_relative, full, expected)) < 1e-14
    errors = list(map(_relative, paper, expected))
    assert max(errors[2:]) < 1e-14
    assert errors[0] > errors[1] > 0.1


def test_first_layer_of_three_is_off_by_a_third() -> None:
    sigma = parse_activation("rct-af:beta=0,alpha=5")
    layers, x, _ = _five(3)
    terms = jax.jit(jax.vmap(lambda layers, x: _terms(layers, sigma, x)))(layers, x)

    @jax.jit
    @jax.vmap
    def first(terms: Terms) -> tuple[jax.Array, jax.Array]:
        return paper_recursion(terms)[0], full_matrix_recursion(terms)[0]

    errors = [_relative(paper, exact) for paper, exact in zip(*first(terms), strict=True)]
    assert 0.37 / 2 < np.median(errors) < 0.37 * 2


def test_error_is_proportional_to_the_residual() -> None:
    """With y moved towards f, f - y shrinks and so does what D is multiplied by."""
    layers, x, y = _deep(0, 3)
    sigma = parse_activation("rct-af:beta=0,alpha=5")

    @jax.jit
    def diagonals(scale: float) -> Any:
        f = forward(layers, sigma, x).pre_activations[-1]
        return [
            appendix_diagonal(method, squared_error, layers, sigma, x, f - scale * (f - y)).total
            for method in (full_matrix_recursion, paper_recursion)
        ]

    errors = []
    for scale in (1.0, 1e-2, 1e-6):
        exact, paper = diagonals(scale)
        errors.append(np.linalg.norm(_flat(paper) - _flat(exact)) / scale)
        relative = _relative(paper, exact)
        assert relative > 1e-2 if scale == 1 else relative < scale
    np.testing.assert_allclose(errors, errors[0], rtol=1e-6)


def test_single_hidden_layer_by_its_own_formulas() -> None:
    layers, x, y = _draw(1, 3, 5, 1)
    expected = neuron_diagonal(squared_error, layers, SHARP, x, y)
    actual = jax.jit(single_hidden_layer_diagonal, static_argnums=1)(layers, SHARP, x, y)
    assert _relative(actual, expected) < 1e-14


def test_single_neuron_by_hand() -> None:
    """x = 2, W = 1, w = 3, z = 0, y = 1 for Swish: h = 0, sigma' = sigma'' = 1/2, f = 0."""
    layers = [Layer(np.ones((1, 1)), np.array([-2.0])), Layer(np.full((1, 1), 3.0), np.zeros(1))]
    swish, x, y = parse_activation("swish"), np.full((1, 1), 2.0), np.ones((1, 1))
    diagonal = single_hidden_layer_diagonal(layers, swish, x, y)
    of_bias = (3 / 2) ** 2 + (0 - 1) * 3 / 2
    expected = [Layer([[4 * of_bias]], [of_bias]), Layer([[0.0]], [1.0])]
    np.testing.assert_allclose(_flat(diagonal), _flat(expected))


@pytest.mark.parametrize("widths", [(2, 3, 1), (2, 3, 1, 3, 2)])
def test_sum_over_paths_equals_the_recursion(widths: tuple[int, ...]) -> None:
    """(33) and (32)."""
    layers, x, y = _draw(2, *widths)

    @jax.jit
    def both() -> list[Layers]:
        methods = (path_sum, paper_recursion)
        return [appendix_diagonal(m, squared_error, layers, SHARP, x, y).curvature for m in methods]

    paths, recursion = both()
    assert _relative(paths, recursion) < 1e-14
    assert all(np.abs(_flat(layer)).max() > 0 for layer in paths[:-1])


def test_sum_over_paths_by_hand() -> None:
    """Widths 2, 2: D_1^(1) has the path that is the neuron itself, and two to the second layer."""
    layers, x, _ = _draw(3, 2, 2, 2, 1)
    terms = _terms(layers, SHARP, x[0])
    (w1, s1, c1, b1), (_, _, c2, b2) = jax.tree.map(np.asarray, terms)
    expected = c1[0] * b1[0] + sum(c2[t] * b2[t] * s1[0] ** 2 * w1[t, 0] ** 2 for t in range(2))
    np.testing.assert_allclose(jax.jit(path_sum)(terms)[0][0], expected, rtol=1e-13)


def test_too_many_paths() -> None:
    layers, x, y = _draw(0, 2, *[40] * 4, 1)
    with pytest.raises(InputError, match=r"have 2692960 paths; .* 1000000 at most"):
        appendix_diagonal(path_sum, squared_error, layers, SHARP, x, y)


@pytest.mark.parametrize("widths", [(4, 3), (4, 5, 3), (4, 5, 2, 6, 3)])
def test_several_outputs_and_cross_entropy(widths: tuple[int, ...]) -> None:
    layers, x, y = _draw(4, *widths)
    labels = np.argmax(y, axis=1)

    @jax.jit
    def diagonals() -> Any:
        exact = neuron_diagonal(cross_entropy, layers, SHARP, x, labels)
        methods = (full_matrix_recursion, paper_recursion)
        return exact, *(
            appendix_diagonal(m, cross_entropy, layers, SHARP, x, labels) for m in methods
        )

    exact, full, paper = diagonals()
    assert _relative(full.total, exact) < 1e-14
    assert (_relative(paper.total, exact) < 1e-14) == (len(widths) <= 4)
    np.testing.assert_array_equal(_flat(paper.gauss_newton), _flat(full.gauss_newton))


def test_gauss_newton_part_is_that_of_the_jacobian() -> None:
    layers, x, y = _draw(5, 4, 5, 3)
    labels = np.argmax(y, axis=1)

    def logits(layers: Layers) -> jax.Array:
        return forward(layers, SHARP, x).pre_activations[-1]

    jacobian = jax.jit(jax.jacobian(logits))(layers)
    p = np.asarray(jax.nn.softmax(jax.jit(logits)(layers)))
    metric = np.einsum("nc,cd->ncd", p, np.eye(3)) - np.einsum("nc,nd->ncd", p, p)

    def mean_square(leaf: jax.Array) -> np.ndarray:
        return np.einsum("nc...,ncd,nd...->...", leaf, metric, leaf) / NUM_EXAMPLES

    parts = appendix_diagonal(paper_recursion, cross_entropy, layers, SHARP, x, labels)
    assert _relative(parts.gauss_newton, jax.tree.map(mean_square, jacobian)) < 1e-14
    assert (_flat(parts.gauss_newton) >= 0).all()


@pytest.mark.parametrize("method", [paper_recursion, full_matrix_recursion, path_sum])
def test_without_curvature_nothing_is_left(method: Recursion) -> None:
    """ReLU: sigma'' = 0 everywhere, and sigma' = 0 where the paper divides by it."""
    layers, x, _ = _draw(6, 4, 3, 3, 3, 1)
    terms = _terms(layers, parse_activation("relu"), x)
    assert any((term.slope == 0).any() for term in terms)
    np.testing.assert_array_equal(_flat(jax.jit(method)(terms)), 0)


@pytest.mark.parametrize("method", [paper_recursion, full_matrix_recursion, path_sum])
def test_linear_in_the_second_derivative(method: Recursion) -> None:
    layers, x, _ = _draw(6, 4, 3, 3, 3, 1)
    terms = _terms(layers, SHARP, x)
    doubled = [term._replace(curvature=2 * term.curvature) for term in terms]
    compiled = jax.jit(method)
    np.testing.assert_allclose(_flat(compiled(doubled)), 2 * _flat(compiled(terms)), rtol=1e-12)


@pytest.mark.parametrize("method", [paper_recursion, full_matrix_recursion, path_sum])
@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 4, 1)])
def test_float32_stays_float32(method: Recursion, widths: tuple[int, ...]) -> None:
    layers, x, y = jax.tree.map(np.float32, _draw(7, *widths))
    parts = jax.eval_shape(lambda: appendix_diagonal(method, squared_error, layers, SHARP, x, y))
    assert {leaf.dtype for leaf in jax.tree.leaves(parts)} == {jnp.dtype("float32")}
    assert jax.tree.map(jnp.shape, parts.curvature) == jax.tree.map(jnp.shape, layers)


def test_bad_input() -> None:
    layers, x, y = _draw(0, 3, 4, 1)
    with pytest.raises(InputError, match=r"expected \[N, 3\]"):
        appendix_diagonal(paper_recursion, squared_error, layers, SHARP, x[:, :2], y)
    kernel = Layer(np.zeros((3, 3, 1, 4)), np.zeros(4))
    with pytest.raises(InputError, match="convolutions share weights"):
        appendix_diagonal(paper_recursion, squared_error, [kernel], SHARP, x, y)
    for others in (_draw(0, 3, 4, 4, 1), _draw(0, 3, 4, 2), _draw(0, 3, 1)):
        with pytest.raises(InputError, match="expected one hidden layer, one output"):
            single_hidden_layer_diagonal(others[0], SHARP, *others[1:])
