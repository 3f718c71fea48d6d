"""The methods' losses for a training loop of one's own: any network, any optimiser.

    def apply(params, images, train):      # of Flax Linen or NNX, Equinox, Haiku or your own
        return network(params, images), params

    def loss(params):
        return trades_loss(apply, params, images, labels, key)

    (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params)

The attack runs in inference mode, as the released codes do; the loss is taken in training mode, the
clean images first, and `aux.variables` holds what the network has moved meanwhile (BatchNorm's
statistics). DAJAT sees several views of a batch, which the caller has augmented.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rctaf_jax.aliases import Classes, Logits, Pixels
from rctaf_jax.errors import InputError
from rctaf_jax.threat_model import threat_model

from .methods.method import Budget, Method, RecipeSetting, ViewLogits
from .methods.registry import make_method, published

ApplyInModes = Callable[[Any, Pixels, bool], tuple[Logits, Any]]
"""`(variables, images, train)` to logits and the variables after the call."""

RECIPES_EPSILON = 8 / 255
"""Of Linf, to which published step sizes belong."""


class LossAux(NamedTuple):
    """What a robust loss has found on the way.

    Attributes:
      variables: as `apply` returned them last, in training mode.
      adversarial: the images that were attacked, without gradient; a tuple of them for a method
        of several views.
      logits: those of the method's passes, by name: "clean", "adversarial" or both; likewise.
      memory: to hand to the next step, {} for methods without.
    """

    variables: Any
    adversarial: Pixels | tuple[Pixels, ...]
    logits: Mapping[str, Logits] | tuple[Mapping[str, Logits], ...]
    memory: PyTree


def robust_loss(
    method: Method | str,
    apply: ApplyInModes | Mapping[str, ApplyInModes],
    variables: Any,
    images: Pixels | Sequence[Pixels],
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
          returned as they are. For a method of several views also one for each of their names
          ("base", "augmented"), each with a BatchNorm set of its own in the variables.
      variables: of the network, any tree.
      images: [batch, ...] with pixels in [0, 1], floating-point; of several views one each, the
        base view first.
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
      InputError: for a method that is unknown, numbers that cannot be, or views, images and labels
        that do not fit.
    """
    built, budget = _chosen(method, (norm, epsilon, step_size, num_steps), options)
    views = _checked_views(built, images, labels)
    applies = apply if isinstance(apply, Mapping) else dict.fromkeys(built.views, apply)
    held = jax.lax.stop_gradient(variables)  # or the attack would be differentiated, for nothing
    attacked, logits, moved = [], [], variables
    for number, (name, clean) in enumerate(zip(built.views, views, strict=True)):
        keys = jax.random.split(jax.random.fold_in(key, number) if number else key, len(clean))
        predict = functools.partial(_logits, applies[name], held)
        seen = {"clean": clean, "adversarial": built.perturb(keys, predict, clean, labels, budget)}
        by_pass = {}
        for which in built.passes:
            by_pass[which], moved = applies[name](moved, seen[which], True)
        attacked.append(seen["adversarial"])
        logits.append(by_pass)
    seen_views = [ViewLogits(by_pass) for by_pass in logits]
    if memory is None:
        memory = built.memory.initial(next(iter(logits[0].values())).shape[-1])
    value = built.loss(seen_views, labels, memory)
    observed = built.memory.observe(seen_views, labels)
    after = built.memory.update(memory, observed, jnp.asarray(ends_epoch))
    after = jax.lax.stop_gradient(after)
    if len(views) == 1:
        return value, LossAux(moved, attacked[0], logits[0], after)
    return value, LossAux(moved, tuple(attacked), tuple(logits), after)


def _logits(apply: ApplyInModes, variables: Any, images: Pixels) -> Logits:
    """In inference mode."""
    return apply(variables, images, False)[0]


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


def _checked_views(
    method: Method, images: Pixels | Sequence[Pixels], labels: Classes
) -> list[Pixels]:
    """The images of each of a method's views.

    Raises:
      InputError: if they are too many or too few, or do not fit the labels.
    """
    views = list(images) if isinstance(images, Sequence) else [images]
    if len(views) != len(method.views):
        raise InputError(
            f"{method.name} sees {len(method.views)} views of a batch ({', '.join(method.views)}); "
            f"given are images of {len(views)}."
        )
    for view in views:
        if not jnp.issubdtype(view.dtype, jnp.floating):
            raise InputError(f"images are {view.dtype}; they must be floating-point, in [0, 1].")
        if labels.shape != view.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise InputError(
                f"labels are {labels.dtype} of shape {labels.shape}; they must be integers of "
                f"shape ({len(view)},), one for each image."
            )
    return views


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


def dajat_loss(
    apply: ApplyInModes | Mapping[str, ApplyInModes],
    variables: Any,
    views: Sequence[Pixels],
    labels: Classes,
    key: PRNGKeyArray,
    *,
    beta: float = 11.0,
    js_weight: float = 2.0,
    label_smoothing: float = 0.0,
    **attack: Any,
) -> tuple[Float[Array, ""], LossAux]:
    """DAJAT's loss (Addepalli et al. 2022) of a base and two augmented views; see `robust_loss`.

    The published options are those of ResNet-18 and ten classes; its budget grows over the epochs,
    so epsilon and num_steps are the caller's.
    """
    options = {"beta": beta, "js_weight": js_weight, "label_smoothing": label_smoothing}
    return robust_loss("dajat", apply, variables, views, labels, key, options=options, **attack)


def acat_loss(
    apply: ApplyInModes,
    variables: Any,
    images: Pixels,
    labels: Classes,
    key: PRNGKeyArray,
    *,
    beta: float = 11.0,
    label_smoothing: float = 0.0,
    **attack: Any,
) -> tuple[Float[Array, ""], LossAux]:
    """ACAT's loss, DAJAT's of the base view alone; see `robust_loss` and `dajat_loss`."""
    options = {"beta": beta, "label_smoothing": label_smoothing}
    return robust_loss("acat", apply, variables, images, labels, key, options=options, **attack)
