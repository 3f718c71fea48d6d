"""The ways to a network's Hessian diagonal, by name: what each counts, and how it goes on.

Each does a number of like things (probes, blocks, parameters, batches of images), some at a time,
and all that it needs to go on is its state, a tree of arrays.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rctaf_jax.activations import Activation
from rctaf_jax.batching import fit_batch, pixels
from rctaf_jax.config import DiagonalConfig
from rctaf_jax.data import Split
from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    HessianEstimate,
    MeanSquare,
    coordinates,
    estimate,
    exact_estimate,
    hutchinson,
    init,
    layers_from_mlp,
    make_dataset_entries,
    make_dataset_product,
    mlp_from_layers,
    neuron_diagonal,
    xdiag,
)
from rctaf_jax.hessian.estimates import mean_square
from rctaf_jax.hessian.products import DatasetSum, LossFn
from rctaf_jax.losses import cross_entropy
from rctaf_jax.models import model_kind
from rctaf_jax.models.normalisation import normalised

State = Any

EXACT_AT_MOST = 2000
"""Parameters up to which `auto` takes a product for each."""
NUM_GROUPS = 16
"""Groups of the jackknife; the sums take a vector for each and one more."""
BLOCK_SIZE = 16
LEAST_BLOCKS = 3


class Problem(NamedTuple):
    """A network and the loss whose Hessian is asked for.

    Attributes:
      model: its name; None for a function of one's own.
      losses: `losses(params, rest, images, labels)`, one for each example.
      params: the parameters.
      rest: statistics and alpha.
      activation: with the network's alpha; None where it is not known.
      split: the examples of the loss.
      devices: that share each batch; None for the default one.
      free_bytes: memory that may be used; None where it is not known.
      has_forward_mode: whether the losses can be differentiated so; a program of `jax.export` and a
        function with a `jax.custom_vjp` cannot.
    """

    model: str | None
    losses: LossFn
    params: Any
    rest: Any
    activation: Activation | None
    split: Split
    devices: list[jax.Device] | None
    free_bytes: int | None
    has_forward_mode: bool = True


class Way(NamedTuple):
    """One way to the diagonal.

    Attributes:
      state: before the first number.
      unit: what the numbers count, such as "probes".
      total: how many there are to do.
      stride: how many are done between two looks.
      advance: `(state, numbers)` to the state with these, too.
      metric: what the state says of the norm on the way; None for a sum that is not done.
      estimate: what the whole state says.
      is_exact: whether that is the diagonal itself, which takes all of the numbers.
      batch_size, block_size: what the numbers are of, where another size is other work.
    """

    state: State
    unit: str
    total: int
    stride: int
    advance: Callable[[State, range], State]
    metric: Callable[[State], MeanSquare | None]
    estimate: Callable[[State], HessianEstimate]
    is_exact: bool = False
    batch_size: int | None = None
    block_size: int | None = None


def method_for(config: DiagonalConfig, problem: Problem) -> str:
    """The method's name, `auto` resolved.

    Raises:
      InputError: if the network cannot be differentiated so.
    """
    if not problem.has_forward_mode and config.method in ("exact", "neuron"):
        raise InputError(
            f"the method {config.method} is not for a network with derivatives in reverse mode "
            "alone (a program, a custom_vjp): use hutchinson, xdiag or coordinates."
        )
    if config.method != "auto":
        return config.method
    if not problem.has_forward_mode:
        return "hutchinson"
    if problem.model is not None and model_kind(problem.model) == "mlp":
        return "neuron"
    return "exact" if num_parameters(problem) <= EXACT_AT_MOST else "hutchinson"


def num_parameters(problem: Problem) -> int:
    """p."""
    return sum(leaf.size for leaf in jax.tree.leaves(problem.params))


def make_way(method: str, config: DiagonalConfig, problem: Problem) -> Way:
    """The way of that name.

    Raises:
      InputError: if it cannot go there, or not in the memory at hand.
    """
    devices = 1 if problem.devices is None else len(problem.devices)
    size = fit_batch(config.batch_size, len(problem.split.labels), devices)
    return _WAYS[method](dataclasses.replace(config, batch_size=size), problem)


def _hutchinson(config: DiagonalConfig, problem: Problem) -> Way:
    # A term is added to copies of the sums, beside a probe and its product.
    _check_fits("hutchinson", 2 * (NUM_GROUPS + 1) + 4, problem)
    key, product = jax.random.key(config.seed), _product(config, problem)

    def advance(state: State, numbers: range) -> State:
        return hutchinson.run(state, product, numbers, key)

    state = init(problem.params, num_groups=NUM_GROUPS)
    return Way(
        state, "probes", config.num_probes, NUM_GROUPS, advance, _mean_square_of_sums, estimate
    )


def _xdiag(config: DiagonalConfig, problem: Problem) -> Way:
    block_size = xdiag_block_size(config, problem)
    num_blocks = config.num_probes // block_size
    if num_blocks < LEAST_BLOCKS:
        raise InputError(
            f"xdiag needs {LEAST_BLOCKS} blocks of {block_size} probes for an interval, and "
            f"num-probes {config.num_probes} makes {num_blocks}: give num-probes "
            f"{LEAST_BLOCKS * block_size} or more, or a smaller block-size."
        )
    _check_fits("xdiag", 2 * (NUM_GROUPS + 1) + block_size + xdiag.NUM_WORKING_VECTORS, problem)
    key, product = jax.random.key(config.seed), _product(config, problem)

    def advance(state: State, numbers: range) -> State:
        return xdiag.run(state, product, numbers, key, block_size=block_size)

    state = init(problem.params, num_groups=NUM_GROUPS)
    return Way(
        state,
        "blocks",
        num_blocks,
        1,
        advance,
        _mean_square_of_sums,
        estimate,
        block_size=block_size,
    )


def xdiag_block_size(config: DiagonalConfig, problem: Problem) -> int:
    """The block size that was asked for, else 16, or what half of the free memory holds."""
    if config.block_size is not None:
        return config.block_size
    if problem.free_bytes is None:
        return BLOCK_SIZE
    within = xdiag.block_size_within(problem.params, num_bytes=problem.free_bytes // 2)
    return min(BLOCK_SIZE, within)


def _coordinates(config: DiagonalConfig, problem: Problem) -> Way:
    least = 2 * len(jax.tree.leaves(problem.params))
    total = min(config.num_probes, num_parameters(problem))
    if total < min(least, num_parameters(problem)):
        raise InputError(
            f"coordinates needs two parameters of each array, {least} in all: num-probes is "
            f"{config.num_probes}."
        )
    key, product = jax.random.key(config.seed), _product(config, problem)

    def advance(state: State, numbers: range) -> State:
        state = coordinates.CoordinateSums(*map(np.asarray, state))
        return coordinates.run(state, product, problem.params, numbers, key)

    def metric(state: State) -> MeanSquare | None:
        return coordinates.estimate(state, problem.params).mean_square

    def finish(state: State) -> HessianEstimate:
        return coordinates.estimate(state, problem.params)

    return Way(
        coordinates.init(problem.params), "parameters", total, least, advance, metric, finish
    )


def _exact(config: DiagonalConfig, problem: Problem) -> Way:
    size = num_parameters(problem)
    bind = make_dataset_entries(
        problem.losses, batch_size=config.batch_size, devices=problem.devices
    )
    entries = bind(problem.params, problem.rest, problem.split.images, problem.split.labels)
    stride, restore = min(256, size), ravel_pytree(problem.params)[1]
    _check_batch_fits(entries.num_bytes(np.arange(stride)), config, problem)

    def advance(state: State, numbers: range) -> State:
        places = np.minimum(numbers.start + np.arange(stride), size - 1)  # One shape, one program.
        found, whole = np.asarray(entries(places)), np.array(state)
        whole[numbers.start : numbers.stop] = found[: len(numbers)]
        return whole

    def finish(state: State) -> HessianEstimate:
        dtype = ravel_pytree(problem.params)[0].dtype
        return exact_estimate(restore(jnp.asarray(state, dtype)), num_products=size)

    return Way(
        np.zeros(size), "parameters", size, stride, advance, _nothing_yet, finish, is_exact=True
    )


def _neuron(config: DiagonalConfig, problem: Problem) -> Way:
    layers, activation = layers_from_mlp(problem.params), problem.activation
    if activation is None:
        raise InputError("the method neuron needs the activation, which is not known here.")
    scaling = problem.rest.get("input")
    images, labels = problem.split.images, problem.split.labels
    num_batches = -(-len(labels) // config.batch_size)

    @jax.jit
    def of_batch(images: jax.Array, labels: jax.Array) -> Any:
        diagonal = neuron_diagonal(
            cross_entropy,
            layers,
            activation,
            normalised(pixels(images), scaling, None, np.float32).reshape(len(images), -1),
            labels,
        )
        return mlp_from_layers(diagonal)

    def advance(state: State, numbers: range) -> State:
        for number in numbers:
            part = slice(number * config.batch_size, (number + 1) * config.batch_size)
            share = len(labels[part]) / len(labels)
            found = jax.device_get(of_batch(images[part], labels[part]))
            state = jax.tree.map(lambda total, new, share=share: total + share * new, state, found)
        return state

    def finish(state: State) -> HessianEstimate:
        num_neurons = sum(layer.bias.size for layer in layers)
        return exact_estimate(state, num_products=num_neurons)

    state = jax.tree.map(np.zeros_like, jax.device_get(problem.params))
    return Way(
        state,
        "batches",
        num_batches,
        1,
        advance,
        _nothing_yet,
        finish,
        is_exact=True,
        batch_size=config.batch_size,
    )


_WAYS: dict[str, Callable[[DiagonalConfig, Problem], Way]] = {
    "exact": _exact,
    "neuron": _neuron,
    "hutchinson": _hutchinson,
    "xdiag": _xdiag,
    "coordinates": _coordinates,
}


def _product(config: DiagonalConfig, problem: Problem) -> DatasetSum:
    bind = make_dataset_product(
        problem.losses,
        batch_size=config.batch_size,
        devices=problem.devices,
        is_reverse=not problem.has_forward_mode,
    )
    product = bind(problem.params, problem.rest, problem.split.images, problem.split.labels)
    _check_batch_fits(product.num_bytes(problem.params), config, problem)
    return product


def _mean_square_of_sums(state: State) -> MeanSquare | None:
    return mean_square(state) if int(np.sum(state.num_terms)) > 1 else None


def _nothing_yet(state: State) -> MeanSquare | None:
    return None


def _check_batch_fits(num_bytes: int | None, config: DiagonalConfig, problem: Problem) -> None:
    """Refuse a batch whose intermediate results do not fit.

    Raises:
      InputError: with both sizes.
    """
    if num_bytes is None or problem.free_bytes is None or num_bytes <= problem.free_bytes:
        return
    raise InputError(
        f"a batch of {config.batch_size} images takes {num_bytes / 1e9:.2g} GB, and "
        f"{problem.free_bytes / 1e9:.2g} GB are free: give a smaller batch-size."
    )


def _check_fits(method: str, num_vectors: int, problem: Problem) -> None:
    """Refuse what needs more memory than there is, products' own work not counted.

    Raises:
      InputError: with both sizes.
    """
    num_bytes = num_vectors * sum(leaf.nbytes for leaf in jax.tree.leaves(problem.params))
    if problem.free_bytes is not None and num_bytes > problem.free_bytes:
        raise InputError(
            f"{method} keeps {num_vectors} vectors of {num_parameters(problem):,} parameters, "
            f"{num_bytes / 1e9:.1f} GB, and {problem.free_bytes / 1e9:.1f} GB are free: use the "
            "method coordinates, which keeps two."
        )
