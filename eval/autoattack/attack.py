"""What an attack of AutoAttack is: a start and a step for a batch of examples that never interact.

An attack goes through `num_runs` runs (its restarts, or its target classes) of `num_steps` steps.
Example i of a batch is in its own run and at its own step, so examples come and go one by one: one
that is broken, or has been through all, leaves its slot to the next. Every array's first axis is
the batch's, and everything random comes from the example's own key, so no outcome depends on who
else is in the batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from rctaf_jax.aliases import Logits, Pixels
from rctaf_jax.eval.verdict import judge_logits
from rctaf_jax.threat_model import Scalar

PredictWithKeys = Callable[[Pixels, Array], Logits]


class Examples(NamedTuple):
    """What an attack knows of each example.

    Attributes:
      images: clean images in [0, 1], correctly classified.
      labels: class indices.
      keys: one key for each example, of its own.
      clean_logits: the network's answer to the clean images.
    """

    images: Pixels
    labels: Int[Array, " B"]
    keys: Array
    clean_logits: Logits


class Outcome(NamedTuple):
    """What became of each example so far; the first event decides and is final.

    Attributes:
      adversarial: the allowed image that decided, else the clean one.
      is_broken: it was misclassified.
      nonfinite: its logits were NaN or infinite: neither broken nor robust.
    """

    adversarial: Pixels
    is_broken: Bool[Array, " B"]
    nonfinite: Bool[Array, " B"]


class Attack(NamedTuple):
    """An attack; its functions are pure, with every hyperparameter closed over.

    Attributes:
      name: as AutoAttack calls it: `apgd-ce`, `apgd-dlr`, `apgd-t`, `fab`, `fab-t`, `square`.
      norm: a name in `threat_model.NORMS`.
      min_classes: the fewest classes it is defined for.
      num_runs: restarts, or target classes, one after another.
      num_steps: calls of `step` in each run.
      start: (examples, run [B], epsilon) to the state of a run, without asking the network. A
          state is a NamedTuple of arrays [B, ...], with an `Outcome` named `outcome`.
      step: (predict, examples, k [B], epsilon, state) to the next state; k is 0 in a run's first
          step. `predict(images, keys)` asks the network; a deterministic one ignores the keys.
      forward_passes: of the network for each step and example, those with a gradient included.
      backward_passes: gradients with respect to the images, for each step and example.
      settings: (name, value) of what the outcome depends on besides, by which a folder knows
          the attack again; pairs, so that an attack can be hashed.
    """

    name: str
    norm: str
    min_classes: int
    num_runs: int
    num_steps: int
    start: Callable[[Examples, Int[Array, " B"], Scalar], Any]
    step: Callable[[PredictWithKeys, Examples, Int[Array, " B"], Scalar, Any], Any]
    forward_passes: int
    backward_passes: int
    settings: tuple[tuple[str, Any], ...] = ()


def choose(condition: Bool[Array, " B"], yes: Any, no: Any) -> Any:
    """Example by example, one of two trees of arrays [B, ...].

    Example:
      >>> print(choose(jnp.array([True, False]), jnp.ones((2, 1)), jnp.zeros((2, 1))).ravel())
      [1. 0.]
    """

    def select(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(select, yes, no)


def is_decided(outcome: Outcome) -> Bool[Array, " B"]:
    """Whether anything was found."""
    return outcome.is_broken | outcome.nonfinite


def initial_outcome(images: Pixels) -> Outcome:
    """Before anything is known."""
    nowhere = jnp.zeros(len(images), bool)
    return Outcome(images, nowhere, nowhere)


def observe(
    outcome: Outcome,
    x: Pixels,
    logits: Logits,
    labels: Int[Array, " B"],
    is_allowed: Bool[Array, " B"] | bool = True,
) -> Outcome:
    """Takes the network's answer to one image for each example into account.

    Args:
      outcome: what is known so far; where it is decided, it stays.
      x: images in [0, 1].
      logits: the answers to x.
      labels: the true classes.
      is_allowed: whether x is within the threat model; elsewhere nothing counts.
    """
    verdict = judge_logits(logits, labels)
    is_open = is_allowed & ~is_decided(outcome)
    is_broken = is_open & ~verdict.correct & ~verdict.nonfinite
    nonfinite = is_open & verdict.nonfinite
    return Outcome(
        choose(is_broken | nonfinite, x, outcome.adversarial),
        outcome.is_broken | is_broken,
        outcome.nonfinite | nonfinite,
    )
