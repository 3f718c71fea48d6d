"""The methods' losses for a training loop of one's own: any network, any optimiser.

    def apply(params, images, train):      # of Flax Linen or NNX, Equinox, Haiku or your own
        return network(params, images), params

    def loss(params):
        return trades_loss(apply, params, images, labels, key)

    (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params)

The attack runs in inference mode, as the released codes do; the loss is taken in training mode, the
clean images first, and `aux.variables` holds what the network has moved meanwhile (BatchNorm's
statistics). DAJAT sees several augmented views, each with its own BatchNorm set: it is a step of
`make_step` alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rctaf_jax.aliases import Classes, Logits, Pixels
from rctaf_jax.errors import InputError
from rctaf_jax.threat_model import threat_model

from .methods.method import BASE, Budget, Method, RecipeSetting, ViewLogits
from .methods.registry import make_method, published

ApplyInModes = Callable[[Any, Pixels, bool], tuple[Logits, Any]]
"""`(variables, images, train)` to logits and the variables after the call."""

RECIPES_EPSILON = 8 / 255
"""Of Linf, to which published step sizes belong."""


class LossAux(NamedTuple):
    """What a robust loss has found on the way.

    Attributes:
      variables: as `apply` returned them last, in training mode.
      adversarial: the images that were attacked, without gradient.
      logits: those of the method's passes, by name: "clean", "adversarial" or both.
      memory: to hand to the next step, {} for methods without.
    """

    variables: Any
    adversarial: Pixels
    logits: Mapping[str, Logits]
    memory: PyTree


def robust_loss(
    method: Method | str,
    apply: ApplyInModes,
    variables: Any,
    images: Pixels,
    labels: Classes,
    key: PRNGKeyArray,
    *,
    norm: str = "Linf",
    epsilon: float | Array = RECIPES_EPSILON,
    step_size: float | Array | None = None,
    num_steps: int | Array | None = None,
    options: Mapping[str, float] | None = None,
    memory: PyTree | None = None,
    ends_epoch: bool | Array = False,
) -> tuple[Float[Array, ""], LossAux]:
    """A method's loss of a batch, differentiable in `variables`.

    Args:
      method: its name, or a `Method`.
      apply: `(variables, images, train)` to `(logits, variables)`; variables that nothing moves are
          returned as they are.
      variables: of the network, any tree.
      images: [batch, ...] with pixels in [0, 1], floating-point.
      labels: [batch], integers.
      key: of the attack's start.
      norm: "Linf" or "L2".
      epsilon: radius of the ball.
      step_size: of the attack; None is the recipe's, scaled by epsilon (Linf only).
      num_steps: of the attack; None is the recipe's, or 10 where its budget grows over epochs.
      options: the method's own numbers in place of the published ones, such as {"beta": 3.0}.
      memory: of the step before; None begins anew (DKL's table of classes).
      ends_epoch: whether this is the last batch of an epoch, when DKL renews its table.

    Returns:
      The mean over the batch, and a `LossAux`.

    Raises:
      InputError: for a method that is unknown or has several views, numbers that cannot be, or
        images and labels that do not fit.
    """
    built, budget = _chosen(method, (norm, epsilon, step_size, num_steps), options)
    _check(built, images, labels)
    held = jax.lax.stop_gradient(variables)  # or the attack would be differentiated, for nothing
    adversarial = built.perturb(
        jax.random.split(key, len(images)),
        lambda x: apply(held, x, False)[0],
        images,
        labels,
        budget,
    )
    by_pass, logits, moved = {"clean": images, "adversarial": adversarial}, {}, variables
    for which in built.passes:
        logits[which], moved = apply(moved, by_pass[which], True)
    views = [ViewLogits(logits)]
    if memory is None:
        memory = built.memory.initial(next(iter(logits.values())).shape[-1])
    value = built.loss(views, labels, memory)
    observed = built.memory.observe(views, labels)
    after = built.memory.update(memory, observed, jnp.asarray(ends_epoch))
    return value, LossAux(moved, adversarial, logits, jax.lax.stop_gradient(after))


def _chosen(
    method: Method | str, stated: tuple[str, Any, Any, Any], options: Mapping[str, float] | None
) -> tuple[Method, Budget]:
    """The method and its attack's budget, with the recipe's numbers for those left out (None)."""
    norm, epsilon, step_size, num_steps = stated
    if not isinstance(epsilon, jax.Array):
        threat_model(norm, epsilon)
    if not isinstance(method, str):
        if step_size is None or num_steps is None or options:
            raise InputError(
                f"{method.name} is given as a Method: step_size and num_steps must be given, and "
                "no options."
            )
        return method, Budget(*stated)
    recipe = published(method).recipe(RecipeSetting())
    chosen = dict(recipe.options) | dict(options or {})
    if chosen.keys() != recipe.options.keys():
        allowed = ", ".join(recipe.options) or "none"
        raise InputError(f"{method} has the options {allowed}; given are {', '.join(chosen)}.")
    step_size = _step_size(norm, epsilon, step_size, recipe.step_size)
    num_steps = (recipe.attack_steps or 10) if num_steps is None else num_steps
    return make_method(method, chosen), Budget(norm, epsilon, step_size, num_steps)


def _step_size(
    norm: str, epsilon: float | Array, stated: float | Array | None, published: float | None
) -> float | Array:
    if stated is not None:
        return stated
    if norm != "Linf":
        raise InputError(f"published step sizes are for Linf: give step_size for {norm}.")
    # Methods whose budget grows over the epochs have none; standard training takes no step.
    return epsilon / 4 if published is None else published * epsilon / RECIPES_EPSILON


def _check(method: Method, images: Pixels, labels: Classes) -> None:
    if method.views != (BASE,):
        raise InputError(
            f"{method.name} sees {len(method.views)} views, each with its own BatchNorm set: build "
            "its step with make_step."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(f"images are {images.dtype}; they must be floating-point, in [0, 1].")
    if labels.shape != images.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(
            f"labels are {labels.dtype} of shape {labels.shape}; they must be integers of shape "
            f"({len(images)},), one for each image."
        )


def standard_loss(
    apply: ApplyInModes,
    variables: Any,
    images: Pixels,
    labels: Classes,
    key: PRNGKeyArray,
    **attack: Any,
) -> tuple[Float[Array, ""], LossAux]:
    """The mean cross-entropy of clean images; see `robust_loss`."""
    return robust_loss("standard", apply, variables, images, labels, key, **attack)


def pgd_at_loss(
    apply: ApplyInModes,
    variables: Any,
    images: Pixels,
    labels: Classes,
    key: PRNGKeyArray,
    **attack: Any,
) -> tuple[Float[Array, ""], LossAux]:
    """PGD adversarial training's loss (Madry et al. 2018); see `robust_loss`."""
    return robust_loss("pgd-at", apply, variables, images, labels, key, **attack)


def trades_loss(
    apply: ApplyInModes,
    variables: Any,
    images: Pixels,
    labels: Classes,
    key: PRNGKeyArray,
    *,
    beta: float = 6.0,
    **attack: Any,
) -> tuple[Float[Array, ""], LossAux]:
    """CE(z(x), y) + beta KL(p(x) || p(x')) (Zhang et al. 2019); see `robust_loss`."""
    options = {"beta": beta}
    return robust_loss("trades", apply, variables, images, labels, key, options=options, **attack)


def mart_loss(
    apply: ApplyInModes,
    variables: Any,
    images: Pixels,
    labels: Classes,
    key: PRNGKeyArray,
    *,
    weight: float = 5.0,
    **attack: Any,
) -> tuple[Float[Array, ""], LossAux]:
    """MART's loss with lambda = `weight` (Wang et al. 2020); see `robust_loss`."""
    options = {"weight": weight}
    return robust_loss("mart", apply, variables, images, labels, key, options=options, **attack)


def dkl_loss(
    apply: ApplyInModes,
    variables: Any,
    images: Pixels,
    labels: Classes,
    key: PRNGKeyArray,
    *,
    alpha: float = 4.0,
    beta: float = 20.0,
    temperature: float = 4.0,
    **attack: Any,
) -> tuple[Float[Array, ""], LossAux]:
    """IKL's loss (Cui et al. 2024); hand `aux.memory` on as `memory`, and see `robust_loss`."""
    options = {"alpha": alpha, "beta": beta, "temperature": temperature}
    return robust_loss("dkl", apply, variables, images, labels, key, options=options, **attack)
