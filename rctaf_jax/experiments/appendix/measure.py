"""What `rctaf validate-appendix` measures: small perceptrons, exactly and by the paper's formulas.

The networks have one output and the loss (1/2) (f - y)^2, as in the paper's appendix. Weights are
normal with variance 2 / fan-in, biases with variance 1/4, inputs and targets with variance 1; the
networks are trained on all examples at once, by Adam.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from rctaf_jax.activations import Activation
from rctaf_jax.hessian import (
    Layer,
    appendix_diagonal,
    forward,
    full_matrix_recursion,
    hidden_terms,
    neuron_diagonal,
    paper_recursion,
    rms_from_diagonal,
    squared_error,
)


@dataclass(frozen=True)
class AppendixConfig:
    """Which networks, and when they are measured."""

    betas: tuple[int, ...] = (0, 1, 2)
    alphas: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0)
    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    """Numbers of hidden layers."""
    seeds: int = 10
    width: int = 16
    """Neurons of each hidden layer."""
    inputs: int = 8
    examples: int = 32
    steps: tuple[int, ...] = (0, 30, 300)
    """Training steps after which to measure; training ends with the last."""
    learning_rate: float = 0.01
    """At the start, then along a cosine to 0."""


class Network(NamedTuple):
    """A network, and the data that it is trained on."""

    layers: list[Layer]
    inputs: Float[Array, "N n_0"]
    targets: Float[Array, "N 1"]


class Measurement(NamedTuple):
    """Of one network with L layers; errors are relative L2 distances from autodiff's.

    Attributes:
        residual: root mean square of f - y.
        paper_error, full_error: of the diagonal by the paper's recursion and by the full matrix.
        metric_error: of the paper's root mean square (8), signed.
        paper_layer_errors: of the paper's diagonal, layer by layer.
        second_derivative_errors: of the paper's D, hidden layer by hidden layer.
        rms, gauss_newton_rms, curvature_rms: root mean squares (8) of H_kk and of its two parts.
        curvature_share: sum_k |sigma'' part| / sum_k (|Gauss-Newton part| + |sigma'' part|).
        curvature_layer_shares: the same, layer by layer.
    """

    residual: Float[Array, ""]
    paper_error: Float[Array, ""]
    full_error: Float[Array, ""]
    metric_error: Float[Array, ""]
    paper_layer_errors: Float[Array, " L"]
    second_derivative_errors: Float[Array, " hidden"]
    rms: Float[Array, ""]
    gauss_newton_rms: Float[Array, ""]
    curvature_rms: Float[Array, ""]
    curvature_share: Float[Array, ""]
    curvature_layer_shares: Float[Array, " L"]


def draw_network(seed: int, depth: int, config: AppendixConfig) -> Network:
    """A random network and random data, in float64 where `jax.enable_x64` is on."""
    rng = np.random.default_rng(seed)
    widths = list(pairwise((config.inputs, *[config.width] * depth, 1)))
    weights = [rng.normal(size=(above, below)) * (2 / below) ** 0.5 for below, above in widths]
    biases = [rng.normal(size=above) / 2 for _, above in widths]
    inputs = rng.normal(size=(config.examples, config.inputs))
    targets = rng.normal(size=(config.examples, 1))
    layers = [Layer(jnp.asarray(w), jnp.asarray(b)) for w, b in zip(weights, biases, strict=True)]
    return Network(layers, jnp.asarray(inputs), jnp.asarray(targets))


def measure_depth(
    activation: Activation, depth: int, config: AppendixConfig
) -> dict[int, Measurement]:
    """Measures the networks of one depth, at each sharpness and with each seed.

    Args:
        activation: of the family; its alpha is replaced by those of `config`.
        depth: number of hidden layers.
        config: the rest.

    Returns:
        For each number of training steps the measurements, leaves [alpha, seed, ...].
    """
    drawn = [draw_network(seed, depth, config) for seed in range(config.seeds)]
    over_seeds = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    networks = jax.tree.map(lambda leaf: np.stack([leaf] * len(config.alphas)), over_seeds)
    train_one, measure_one = _make_train(activation, config), _make_measure(activation)
    train = jax.jit(jax.vmap(jax.vmap(train_one, (None, 0, 0, None)), (0, 0, 0, None)))
    # Most of the time goes to the compiler, which takes half as long without optimising.
    measure = jax.jit(
        jax.vmap(jax.vmap(measure_one, (None, 0))),
        compiler_options={"xla_backend_optimization_level": "0"},
    )
    alphas, measured = np.array(config.alphas), {}
    state = jax.jit(jax.vmap(jax.vmap(_adam(config).init)))(networks.layers)
    for before, steps in pairwise((0, *config.steps)):
        networks, state = train(alphas, networks, state, steps - before)
        measured[steps] = jax.device_get(measure(alphas, networks))
    return measured


def _adam(config: AppendixConfig) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(config.learning_rate, max(config.steps)))


def _make_train(activation: Activation, config: AppendixConfig) -> Callable[..., Any]:
    """(alpha, network, optimizer's state, number of steps) to the next network and state."""
    optimizer = _adam(config)

    def train(
        alpha: float, network: Network, state: optax.OptState, num_steps: int
    ) -> tuple[Network, optax.OptState]:
        sigma = replace(activation, alpha=alpha)

        def loss(layers: list[Layer]) -> Float[Array, ""]:
            outputs = forward(layers, sigma, network.inputs).pre_activations[-1]
            return jnp.mean(squared_error(outputs, network.targets))

        def step(_: Array, carry: tuple[list[Layer], optax.OptState]) -> Any:
            layers, state = carry
            updates, state = optimizer.update(jax.grad(loss)(layers), state)
            return optax.apply_updates(layers, updates), state

        layers, state = jax.lax.fori_loop(0, num_steps, step, (network.layers, state))
        return network._replace(layers=layers), state

    return train


def _make_measure(activation: Activation) -> Callable[[float, Network], Measurement]:
    def measure(alpha: float, network: Network) -> Measurement:
        layers, inputs, targets = network
        sigma = replace(activation, alpha=alpha)
        exact = neuron_diagonal(squared_error, layers, sigma, inputs, targets)
        full, paper = (
            appendix_diagonal(recursion, squared_error, layers, sigma, inputs, targets)
            for recursion in (full_matrix_recursion, paper_recursion)
        )
        z = forward(layers, sigma, inputs).pre_activations
        terms = hidden_terms(layers, sigma, z, jnp.ones(1))
        rms = rms_from_diagonal(exact)
        parts = list(zip(full.gauss_newton, full.curvature, strict=True))
        return Measurement(
            residual=rms_from_diagonal(z[-1] - targets),
            paper_error=_distance(paper.total, exact),
            full_error=_distance(full.total, exact),
            metric_error=rms_from_diagonal(paper.total) / rms - 1,
            paper_layer_errors=_distances(paper.total, exact),
            second_derivative_errors=_distances(
                paper_recursion(terms), full_matrix_recursion(terms)
            ),
            rms=rms,
            gauss_newton_rms=rms_from_diagonal(full.gauss_newton),
            curvature_rms=rms_from_diagonal(full.curvature),
            curvature_share=_share(full.gauss_newton, full.curvature),
            curvature_layer_shares=jnp.stack([_share(*pair) for pair in parts]),
        )

    return measure


def _distance(actual: PyTree, expected: PyTree) -> Float[Array, ""]:
    difference = jax.tree.map(jnp.subtract, actual, expected)
    return jnp.sqrt(_sum_of(jnp.square, difference) / _sum_of(jnp.square, expected))


def _distances(actual: Sequence[PyTree], expected: Sequence[PyTree]) -> Float[Array, " L"]:
    return jnp.stack([_distance(a, e) for a, e in zip(actual, expected, strict=True)])


def _share(gauss_newton: PyTree, curvature: PyTree) -> Float[Array, ""]:
    part = _sum_of(jnp.abs, curvature)
    return part / (part + _sum_of(jnp.abs, gauss_newton))


def _sum_of(function: Callable[[Array], Array], tree: PyTree) -> Float[Array, ""]:
    return jnp.sum(jnp.stack([jnp.sum(function(leaf)) for leaf in jax.tree.leaves(tree)]))
