"""FAB: Fast Adaptive Boundary attack (Croce & Hein 2020), which looks for the nearest misclassified
image of any distance.

With df = z_j(x) - z_y(x) and w its gradient, the boundary to class j is about the hyperplane
{v : <w, v> = <w, x> - df}. Let d1 and d2 bring the iterate x and the clean image x_0 to it:

    alpha = min(||d1|| / (||d1|| + ||d2||), 0.1),
    x <- clip((1 - alpha) (x + 1.05 d1) + alpha (x_0 + 1.05 d2)),
    x <- x_0 + 0.9 (x - x_0)    where x is misclassified.

FAB-T aims at one class j in each run; FAB at the class of the nearest hyperplane, which minimises
|df| / (||w||_dual + 1e-12). An example is broken by any misclassified image within epsilon.

Unlike the original, which judges x only before it is pulled back, the images at which a step
begins (random starts and pulled back ones) are judged too: their logits come with the gradient.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax.aliases import Logits, Pixels, Predict
from rctaf_jax.errors import InputError
from rctaf_jax.eval.verdict import judge_logits
from rctaf_jax.threat_model import NORMS, Scalar, is_inside, norm_named

from .attack import Attack, Examples, Outcome, PredictWithKeys, initial_outcome, observe
from .hyperplane import to_hyperplane

ALPHA_MAX, OVERSHOOT, BACKWARD = 0.1, 1.05, 0.9

PerExample = Float[Array, " B"]
LengthFn = Callable[[Pixels], PerExample]

_DUALS = {"Linf": NORMS["L1"].length, "L2": NORMS["L2"].length, "L1": NORMS["Linf"].length}
# Directions of the random starts, before they are scaled; not uniform in the ball.
_DRAWS: dict[str, Callable[..., Array]] = {
    "Linf": functools.partial(jax.random.uniform, minval=-1, maxval=1),
    "L2": jax.random.normal,
    "L1": jax.random.normal,
}


class FABState(NamedTuple):
    """A run of FAB; `x` is where the next step begins, `outcome` what is known."""

    x: Pixels
    run: Int[Array, " B"]
    outcome: Any


class _Boundary(NamedTuple):
    """df and its gradient at x, and the logits there."""

    logits: Logits
    gap: PerExample
    normal: Pixels


Start = Callable[[Examples, Int[Array, " B"], Scalar], Pixels]
Linearise = Callable[[Predict, Examples, FABState], _Boundary]


def make_fab_targeted(*, norm: str, num_targets: int = 9, num_steps: int = 100) -> Attack:
    """Makes FAB-T, which goes from the clean image towards one class in each run.

    Run r aims at the class that is ranked r + 2 by the clean logits (the label is the first).

    Args:
      norm: a name in `threat_model.NORMS`, of the distance to minimise.
      num_targets: runs; at most the number of classes less one.
      num_steps: of each run.

    Returns:
      The attack, whose `start` raises `InputError` if there are not enough classes.

    Raises:
      InputError: if the norm is unknown or a number is below 1.

    Example:
      >>> make_fab_targeted(norm="L2", num_targets=3).num_runs
      3
    """
    _require_positive(num_targets=num_targets, num_steps=num_steps)

    def start(examples: Examples, run: Int[Array, " B"], epsilon: Scalar) -> Pixels:
        num_classes = examples.clean_logits.shape[1]
        if num_targets >= num_classes:
            raise InputError(
                f"fab-t with {num_targets} targets needs at least {num_targets + 1} classes, "
                f"got {num_classes}"
            )
        return examples.images

    return _make_attack("fab-t", norm, num_targets, num_steps, start, towards_ranked)


def make_fab(*, norm: str, num_steps: int = 100, num_restarts: int = 5) -> Attack:
    """Makes FAB without targets: each step needs the gradients of all classes.

    The first run starts from the clean image, each later one from a random image at a distance of
    epsilon / 2.

    Args:
      norm: a name in `threat_model.NORMS`, of the distance to minimise.
      num_steps: of each run.
      num_restarts: runs.

    Returns:
      The attack. Its `backward_passes` of 1 is true of two classes: each wrong class takes one.

    Raises:
      InputError: if the norm is unknown or a number is below 1.

    Example:
      >>> make_fab(norm="L2").num_runs
      5
    """
    _require_positive(num_steps=num_steps, num_restarts=num_restarts)
    row = norm_named(norm)

    def start(examples: Examples, run: Int[Array, " B"], epsilon: Scalar) -> Pixels:
        images = examples.images
        keys = jax.vmap(jax.random.fold_in)(examples.keys, run)
        drawn = jax.vmap(lambda key: _DRAWS[norm](key, images.shape[1:], images.dtype))(keys)
        length = row.length(drawn)
        direction = drawn / _like(jnp.where(length > 0, length, 1), drawn)
        x = jnp.clip(images + epsilon / 2 * direction, 0, 1)
        return jnp.where(_like(run == 0, x), images, x)

    def linearise(ask: Predict, examples: Examples, state: FABState) -> _Boundary:
        return _nearest(ask, state.x, examples.labels, _DUALS[norm])

    return _make_attack("fab", norm, num_restarts, num_steps, start, linearise)


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}")


def _make_attack(
    name: str, norm: str, num_runs: int, num_steps: int, start: Start, linearise: Linearise
) -> Attack:
    norm_named(norm)

    def begin(examples: Examples, run: Int[Array, " B"], epsilon: Scalar) -> FABState:
        return FABState(start(examples, run, epsilon), run, initial_outcome(examples.images))

    step = functools.partial(_step, linearise, norm)
    return Attack(name, norm, 2, num_runs, num_steps, begin, step, 2, 1)


def _step(
    linearise: Linearise,
    norm: str,
    predict: PredictWithKeys,
    examples: Examples,
    k: Int[Array, " B"],
    epsilon: Scalar,
    state: FABState,
) -> FABState:
    images, labels = examples.images, examples.labels

    def take_note(outcome: Outcome, x: Pixels, logits: Logits) -> Outcome:
        is_allowed = is_inside(x, images, norm=norm, epsilon=epsilon)
        return observe(outcome, x, logits, labels, is_allowed)

    return walk(linearise, norm, take_note, predict, examples, k, state)


def walk(
    linearise: Linearise,
    norm: str,
    take_note: Callable[[Any, Pixels, Logits], Any],
    predict: PredictWithKeys,
    examples: Examples,
    k: Int[Array, " B"],
    state: FABState,
) -> FABState:
    """One step of FAB from the state's x.

    Args:
      linearise: the boundary that is aimed at.
      norm: a name in `threat_model.NORMS`.
      take_note: `(outcome, x, logits)` to the next outcome; asked of both images of a step.
      predict, examples, k, state: as of an `Attack`'s step.
    """
    images = examples.images
    before, after = _keys_of_step(examples.keys, state.run, k)
    boundary = linearise(lambda x: predict(x, before), examples, state)
    outcome = take_note(state.outcome, state.x, boundary.logits)
    x = _move(state.x, images, boundary, norm)
    # This pass cannot serve the next gradient as well: a misclassified x is pulled back first.
    logits = predict(x, after)
    verdict = judge_logits(logits, examples.labels)
    is_adversarial = ~verdict.correct & ~verdict.nonfinite
    pulled_back = images + BACKWARD * (x - images)
    x_next = jnp.where(_like(is_adversarial, x), pulled_back, x)
    return FABState(x_next, state.run, take_note(outcome, x, logits))


def _keys_of_step(keys: Array, run: Int[Array, " B"], k: Int[Array, " B"]) -> tuple[Array, Array]:
    """For the network, should it be random: one key for each of the two passes."""
    fold = jax.vmap(jax.random.fold_in)
    split = jax.vmap(jax.random.split)(fold(fold(keys, run), k))
    return split[:, 0], split[:, 1]


def _move(x: Pixels, images: Pixels, boundary: _Boundary, norm: str) -> Pixels:
    """One step along the linearised boundary, drawn towards the clean image."""
    gap, normal = _scaled(boundary.gap, boundary.normal)
    # The clean image's gap: <w, x_0> - b with b = <w, x> - df, without the large <w, x>.
    clean_gap = gap + jnp.sum(normal * (images - x), axis=(1, 2, 3))
    from_x = to_hyperplane(x, normal, gap, norm=norm)
    from_clean = to_hyperplane(images, normal, clean_gap, norm=norm)
    length = norm_named(norm).length
    length_x = jnp.maximum(length(from_x), 1e-8)
    length_clean = jnp.maximum(length(from_clean), 1e-8)
    alpha = _like(jnp.minimum(length_x / (length_x + length_clean), ALPHA_MAX), x)
    mixed = (1 - alpha) * (x + OVERSHOOT * from_x) + alpha * (images + OVERSHOOT * from_clean)
    return jnp.clip(mixed, 0, 1)


def _scaled(gap: PerExample, normal: Pixels) -> tuple[PerExample, Pixels]:
    """A hyperplane scaled to entries of at most 1; none where it is not finite."""
    scale = jnp.max(jnp.abs(normal), axis=(1, 2, 3))
    is_usable = (scale > 0) & jnp.isfinite(scale) & jnp.isfinite(gap)
    divisor = jnp.where(is_usable, scale, 1)
    return (
        jnp.where(is_usable, gap / divisor, 0),
        jnp.where(_like(is_usable, normal), normal / _like(divisor, normal), 0),
    )


def towards_ranked(ask: Predict, examples: Examples, state: FABState) -> _Boundary:
    """The boundary at x to the class that run r aims at, ranked r + 2 by the clean logits."""
    ranked = jnp.argsort(-examples.clean_logits, axis=1)
    target = jnp.take_along_axis(ranked, state.run[:, None] + 1, axis=1)

    def difference(x: Pixels) -> tuple[Float[Array, ""], tuple[Logits, PerExample]]:
        logits = ask(x)
        label = jnp.take_along_axis(logits, examples.labels[:, None], axis=1)
        gap = (jnp.take_along_axis(logits, target, axis=1) - label)[:, 0]
        return gap.sum(), (logits, gap)

    (_, (logits, gap)), normal = jax.value_and_grad(difference, has_aux=True)(state.x)
    return _Boundary(logits, gap.astype(normal.dtype), normal)


def _nearest(ask: Predict, x: Pixels, labels: Int[Array, " B"], dual: LengthFn) -> _Boundary:
    """One gradient at a time, so that memory does not grow with the number of classes."""
    logits, pull = jax.vjp(ask, x)
    num_classes = logits.shape[1]

    def consider(shift: Int[Array, ""], best: tuple[PerExample, PerExample, Pixels]) -> tuple:
        of_class = jax.nn.one_hot((labels + shift) % num_classes, num_classes, dtype=logits.dtype)
        of_label = jax.nn.one_hot(labels, num_classes, dtype=logits.dtype)
        (normal,) = pull(of_class - of_label)
        gap = jnp.sum(jnp.where(of_class > 0, logits, 0) - jnp.where(of_label > 0, logits, 0), 1)
        gap = gap.astype(x.dtype)  # the logits may be wider
        length = dual(normal)
        distance = jnp.abs(gap) / (length + 1e-12)
        is_nearer = jnp.isfinite(length) & (distance < best[0])
        return (
            jnp.where(is_nearer, distance, best[0]),
            jnp.where(is_nearer, gap, best[1]),
            jnp.where(_like(is_nearer, x), normal, best[2]),
        )

    nowhere = jnp.zeros(len(x), x.dtype)
    first = (jnp.full(len(x), jnp.inf, x.dtype), nowhere, jnp.zeros_like(x))
    _, gap, normal = jax.lax.fori_loop(1, num_classes, consider, first)
    return _Boundary(logits, gap, normal)


def _like(values: PerExample | Bool[Array, " B"], images: Pixels) -> Float[Array, "B 1 1 1"]:
    return values.reshape(values.shape + (1,) * (images.ndim - 1))
