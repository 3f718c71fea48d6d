"""The state of training: arrays only, all that is needed to go on bit for bit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from rctaf_jax.models import norm_set, with_norm_set

from .methods.method import BASE, Method

SGD_MOMENTUM = 0.9


class Weights(NamedTuple):
    """What the optimiser moves.

    Attributes:
      params: the network's weights, with the base view's BatchNorm set.
      norms: scale and bias of further BatchNorm sets, by view.
    """

    params: PyTree
    norms: dict[str, PyTree]


class TrainState(NamedTuple):
    """What one step hands to the next.

    Attributes:
      step: number of optimiser steps taken.
      weights: what the optimiser moves.
      statistics: BatchNorm's running statistics, by view.
      activation: the activation's own arrays (alpha for the RCT-AF family).
      optimizer: the optimiser's momentum.
      averaged: `params` and `batch_stats` averaged over steps; {} without weight averaging.
      memory: the method's own.
      seed: key data from which every random draw of training is folded.
    """

    step: Int[Array, ""]
    weights: Weights
    statistics: dict[str, PyTree]
    activation: PyTree
    optimizer: PyTree
    averaged: dict[str, PyTree]
    memory: PyTree
    seed: Array

    @property
    def params(self) -> PyTree:
        """The network's weights."""
        return self.weights.params

    @property
    def batch_stats(self) -> PyTree:
        """BatchNorm's running statistics over the base view."""
        return self.statistics[BASE]

    @property
    def variables(self) -> dict[str, PyTree]:
        """As the model's `apply` takes them: the weights as they are, the base BatchNorm set."""
        return view_variables(self.weights, self.statistics, self.activation, BASE)

    @property
    def final_variables(self) -> dict[str, PyTree]:
        """As `variables`, averaged where the run averages its weights: what to evaluate."""
        return {**self.variables, **self.averaged}


def view_variables(
    weights: Weights, statistics: dict[str, PyTree], activation: PyTree, view: str
) -> dict[str, PyTree]:
    """The variables with which the network sees one view."""
    params = weights.params
    if view != BASE:
        params = with_norm_set(params, weights.norms[view])
    return {"params": params, "batch_stats": statistics[view], "activation": activation}


def sgd(weight_decay: float) -> optax.GradientTransformation:
    """SGD with momentum 0.9, not Nesterov, weight decay added to the gradient (coupled).

    The learning rate multiplies the update afterwards, so that it can be traced.
    """
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.trace(SGD_MOMENTUM))


def initial_state(
    variables: dict[str, PyTree],
    optimizer: optax.GradientTransformation,
    key: PRNGKeyArray,
    method: Method,
    *,
    num_classes: int,
    is_averaged: bool = False,
) -> TrainState:
    """Step 0 of training `variables`, as the model's `init` makes them.

    Args:
      variables: `params`, `batch_stats` and `activation`.
      optimizer: see `sgd`.
      key: of everything random in training.
      method: its views and its memory.
      num_classes: number of logits.
      is_averaged: whether a weight average is kept.
    """
    params, batch_stats = variables["params"], variables["batch_stats"]
    views = dict.fromkeys(method.views)
    norms = {view: norm_set(params, batch_stats) for view in views if view != BASE}
    weights = Weights(params, norms)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        statistics=dict.fromkeys(views, batch_stats),
        activation=variables["activation"],
        optimizer=optimizer.init(weights),
        averaged={"params": params, "batch_stats": batch_stats} if is_averaged else {},
        memory=method.memory.initial(num_classes),
        seed=jax.random.key_data(key),
    )
