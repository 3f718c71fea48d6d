"""Auto-PGD (Croce & Hein 2020): projected gradient ascent that chooses its own step size.

Each step evaluates the loss and its gradient at x_k, and moves on to x_{k+1} by the rule of the
norm: `apgd_momentum` for Linf and L2, `apgd_l1` for L1. The first misclassified point is what is
returned.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.aliases import Logits, Pixels
from rctaf_jax.errors import InputError
from rctaf_jax.losses import dlr, dlr_targeted, unsaturated_cross_entropy
from rctaf_jax.threat_model import Scalar, norm_named, project
from rctaf_jax.values import lookup

from . import apgd_l1, apgd_momentum
from .apgd_iterate import Iterate
from .attack import Attack, Examples, Outcome, PredictWithKeys, choose, initial_outcome, observe

RunLoss = Callable[[Logits, Examples, Int[Array, " B"]], Float[Array, " B"]]


class APGDState(NamedTuple):
    """Where a run of APGD stands.

    Attributes:
      x: the point to be evaluated next.
      best: the evaluated point with the highest loss, of the phase in L1.
      memory: an `apgd_momentum.Momentum`, or in L1 an `apgd_l1.Sparse`.
      run: the number of the run.
      outcome: what was found.
    """

    x: Pixels
    best: Iterate
    memory: Any
    run: Int[Array, " B"]
    outcome: Outcome


class _Search(NamedTuple):
    """How a norm is searched: a start's distance, when a search begins and counts, and a step."""

    num_evaluations: int
    start_radius: float
    is_first: Bool[np.ndarray, " K"]
    is_counted: Bool[np.ndarray, " K"]
    begin: Callable[[Pixels, Scalar], Any]
    move: Callable[..., tuple[Pixels, Any]]


def make_apgd(
    *, norm: str, loss: str, num_steps: int = 100, num_restarts: int = 1, num_eot: int = 1
) -> Attack:
    """APGD on a loss that needs no target: `apgd-ce` or `apgd-dlr`.

    Args:
      norm: a name in `threat_model.NORMS`; L1 is searched with large radii first.
      loss: `ce`, the cross-entropy, or `dlr`, the difference of logits ratio.
      num_steps: updates in each restart, in L1 at least 2; the start is evaluated too, so an
          `Attack` has one step more (three in L1, one for each phase).
      num_restarts: independent random starts.
      num_eot: gradients that are averaged in each step, for randomised networks; the first
          draw's answer is the one that is judged.

    Raises:
      InputError: if a name is unknown or a number is too small.

    Example:
      >>> attack = make_apgd(norm="Linf", loss="dlr", num_restarts=5)
      >>> attack.name, attack.num_runs, attack.num_steps, attack.min_classes
      ('apgd-dlr', 5, 101, 3)
    """
    loss_fn, min_classes = lookup("loss", loss, APGD_LOSSES)
    _require_positive(num_restarts=num_restarts)
    make = functools.partial(_make, norm, loss_fn, num_steps, num_eot)
    return make(name=f"apgd-{loss}", min_classes=min_classes, num_runs=num_restarts)


def make_apgd_targeted(
    *, norm: str, num_targets: int = 9, num_steps: int = 100, num_eot: int = 1
) -> Attack:
    """APGD on the targeted DLR loss, `apgd-t`: run r pushes to the clean image's class r + 2.

    That is the class with the (r + 2)-th largest logit. Any misclassification counts.

    Args:
      norm: as for `make_apgd`.
      num_targets: how many classes are tried, at most one less than there are.
      num_steps: as for `make_apgd`.
      num_eot: as for `make_apgd`.

    Raises:
      InputError: if the norm is unknown or a number is too small, and from `start` if there are
          fewer than num_targets + 1 classes.

    Example:
      >>> attack = make_apgd_targeted(norm="L1", num_targets=5)
      >>> attack.name, attack.num_runs, attack.num_steps, attack.min_classes
      ('apgd-t', 5, 103, 6)
    """
    _require_positive(num_targets=num_targets)
    make = functools.partial(_make, norm, _targeted, num_steps, num_eot)
    return make(name="apgd-t", min_classes=max(4, num_targets + 1), num_runs=num_targets)


def _make(norm: str, loss_fn: RunLoss, num_steps: int, num_eot: int, **identity: Any) -> Attack:
    norm_named(norm)
    _require_positive(num_steps=num_steps, num_eot=num_eot)
    search = _l1_search(num_steps) if norm == "L1" else _momentum_search(norm, num_steps)
    return Attack(
        norm=norm,
        num_steps=search.num_evaluations,
        start=functools.partial(_start, search, norm, identity["min_classes"]),
        step=functools.partial(_step, search, loss_fn, num_eot),
        forward_passes=num_eot,
        backward_passes=num_eot,
        settings=(("num_eot", num_eot),),
        **identity,
    )


def _l1_search(num_steps: int) -> _Search:
    if num_steps < 2:
        raise InputError(
            f"num_steps must be at least 2 in L1, got {num_steps}: no step is left for the phase "
            "that counts"
        )
    phases = apgd_l1.make_phases(num_steps)
    return _Search(
        len(phases.radius),
        apgd_l1.FIRST_RADIUS,
        phases.is_first,
        phases.radius == 1,
        lambda start, epsilon: apgd_l1.begin(start),
        functools.partial(apgd_l1.move, phases),
    )


def _momentum_search(norm: str, num_steps: int) -> _Search:
    numbers = np.arange(num_steps + 1)
    move = functools.partial(apgd_momentum.move, norm, apgd_momentum.windows(num_steps))
    return _Search(len(numbers), 1.0, numbers == 0, numbers >= 0, apgd_momentum.begin, move)


def _start(
    search: _Search,
    norm: str,
    min_classes: int,
    examples: Examples,
    run: Int[Array, " B"],
    epsilon: Scalar,
) -> APGDState:
    """A random point: of the sphere in Linf and L2, and Gaussian noise projected in L1."""
    images, num_classes = examples.images, examples.clean_logits.shape[-1]
    if num_classes < min_classes:
        raise InputError(f"this attack needs {min_classes} classes or more, got {num_classes}")
    noise = jax.vmap(lambda key: NOISE[norm](key, images.shape[1:], images.dtype))(
        _step_keys(examples.keys, run, jnp.zeros_like(run))
    )
    radius = search.start_radius * epsilon
    if norm != "L1":
        length = norm_named(norm).length(noise)[:, None, None, None]
        noise = radius * noise / (length + 1e-12)
    x = project(images + noise, images, norm=norm, epsilon=radius)
    nowhere = Iterate(x, jnp.full(len(x), -jnp.inf, x.dtype), jnp.zeros_like(x))
    return APGDState(x, nowhere, search.begin(x, epsilon), run, initial_outcome(images))


def _step(
    search: _Search,
    loss_fn: RunLoss,
    num_eot: int,
    predict: PredictWithKeys,
    examples: Examples,
    k: Int[Array, " B"],
    epsilon: Scalar,
    state: APGDState,
) -> APGDState:
    keys = _step_keys(examples.keys, state.run, k + 1)  # 0 is the start's
    here, logits = _evaluate(
        predict,
        lambda logits: loss_fn(logits, examples, state.run),
        state.x,
        keys,
        num_eot,
    )
    is_counted = jnp.asarray(search.is_counted)[k]
    outcome = observe(state.outcome, state.x, logits, examples.labels, is_counted)
    is_best = jnp.asarray(search.is_first)[k] | (here.loss > state.best.loss)
    best = choose(is_best, here, state.best)
    x, memory = search.move(k, epsilon, examples.images, here, best, state.memory)
    return APGDState(x, best, memory, state.run, outcome)


def _evaluate(
    predict: PredictWithKeys,
    loss_fn: Callable[[Logits], Float[Array, " B"]],
    x: Pixels,
    keys: Array,
    num_eot: int,
) -> tuple[Iterate, Logits]:
    """The first draw's answer and loss, and the mean of all draws' gradients."""

    def objective(x: Pixels, keys: Array) -> tuple[Float[Array, ""], tuple[Logits, Array]]:
        logits = predict(x, keys)
        loss = loss_fn(logits).astype(x.dtype)
        return jnp.sum(loss), (logits, loss)

    def draw(number: int) -> tuple[tuple[Logits, Array], Pixels]:
        draw_keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        (_, answer), gradient = jax.value_and_grad(objective, has_aux=True)(x, draw_keys)
        return answer, gradient

    # The first draw is in no loop: in one, even of one turn, a convolution's gradient takes ten
    # times as long on the CPU.
    (logits, loss), total = draw(0)
    if num_eot > 1:
        total = jax.lax.fori_loop(1, num_eot, lambda i, total: total + draw(i)[1], total)
    # Where the network gives no answer its slope says nothing: stay, and never call it the best.
    gradient = jnp.where(jnp.isfinite(total), total / num_eot, 0)
    return Iterate(x, jnp.where(jnp.isfinite(loss), loss, -jnp.inf), gradient), logits


def _step_keys(keys: Array, run: Int[Array, " B"], number: Int[Array, " B"]) -> Array:
    fold = jax.vmap(jax.random.fold_in)
    return fold(fold(keys, run), number)


def _cross_entropy(logits: Logits, examples: Examples, run: Int[Array, " B"]) -> Array:
    return unsaturated_cross_entropy(logits, examples.labels)


def _dlr(logits: Logits, examples: Examples, run: Int[Array, " B"]) -> Array:
    return dlr(logits, examples.labels)


def _targeted(logits: Logits, examples: Examples, run: Int[Array, " B"]) -> Array:
    _, ranked = jax.lax.top_k(examples.clean_logits, logits.shape[-1])
    targets = jnp.take_along_axis(ranked, run[:, None] + 1, axis=1)[:, 0]
    return dlr_targeted(logits, examples.labels, targets)


def _require_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")


def _uniform(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.uniform(key, shape, dtype, -1, 1)


APGD_LOSSES: dict[str, tuple[RunLoss, int]] = {"ce": (_cross_entropy, 2), "dlr": (_dlr, 3)}
NOISE = {"Linf": _uniform, "L2": jax.random.normal, "L1": jax.random.normal}
