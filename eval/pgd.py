"""Projected gradient descent (Madry et al. 2018) and its single step, FGSM, as measurements.

    x_0 = x + epsilon U(unit ball),     x_{k+1} = P( x_k + eta s(grad loss(z(x_k), y)) ).

An example is robust if the clean image and every restart's last iterate are classified correctly.
This bounds robust accuracy from above; AutoAttack is the sharper measurement.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from rctaf_jax import losses
from rctaf_jax.aliases import Pixels
from rctaf_jax.batching import Images, Labels, PaddedBatch, Progress, over_batches, pixels
from rctaf_jax.closed_over import Lifted
from rctaf_jax.errors import InputError
from rctaf_jax.projected_ascent import projected_ascent
from rctaf_jax.threat_model import Scalar, norm_named, project, threat_model
from rctaf_jax.values import lookup

from .accuracy import share_line
from .keys import threefry_key
from .verdict import LogitsFn, NetworkVariables, judge_logits, require_allowed

AttackLoss = Callable[[Float[Array, "B classes"], Int[Array, " B"]], Float[Array, " B"]]
StartFn = Callable[[Array, Pixels, Scalar], Pixels]

PGD_LOSSES: dict[str, AttackLoss] = {
    "ce": losses.unsaturated_cross_entropy,
    "margin": losses.margin,
}


class PGDResult(NamedTuple):
    """What an attack did to each example: robust, not finite, or otherwise broken.

    Attributes:
      robust: correct on the clean image and on every restart's last iterate.
      adversarial: a misclassified image where there is one (the clean image, if that is), else
          the last iterate of the restart with the highest loss.
      nonfinite: some logits were NaN or infinite, and no image with finite logits was
          misclassified: neither robust nor broken.
    """

    robust: Bool[np.ndarray, " N"]
    adversarial: Float[np.ndarray, "N H W C"]
    nonfinite: Bool[np.ndarray, " N"]

    def summary(self) -> str:
        """The robust accuracy with its interval, and how many examples are neither."""
        line = share_line("robust", int(self.robust.sum()), len(self.robust))
        if not self.nonfinite.any():
            return line
        return f"{line}\nneither robust nor broken, logits not finite: {self.nonfinite.sum()}"


class _Candidate(NamedTuple):
    """An image for each example, and what speaks for it."""

    images: Pixels
    is_broken: Bool[Array, " B"]
    loss: Float[Array, " B"]
    nonfinite: Bool[Array, " B"]


class _Attack(NamedTuple):
    """What is fixed when an attack is made."""

    logits_fn: LogitsFn
    loss_fn: AttackLoss
    start_fn: StartFn
    norm: str
    num_steps: int
    num_restarts: int


def pgd_attack(
    logits_fn: Callable[[Pixels], Float[Array, "B classes"]],
    images: Images,
    labels: Labels,
    key: Array,
    *,
    norm: str = "Linf",
    epsilon: float = 8 / 255,
    step_size: float | None = None,
    num_steps: int = 20,
    num_restarts: int = 1,
    loss: str = "margin",
    batch_size: int = 128,
) -> PGDResult:
    """PGD on any function from images to logits, in one call; see `make_pgd`.

    Args:
      logits_fn: images [B, H, W, C] in [0, 1] to logits, BatchNorm in inference mode.
      images, labels, key, epsilon: as the attack of `make_pgd` takes them.
      step_size: of each step; a quarter of epsilon when left out.
      norm, num_steps, num_restarts, loss, batch_size: as for `make_pgd`.

    Raises:
      InputError: if an argument is not allowed.

    Example:
      >>> images = np.array([[0, 255], [120, 135]], np.uint8).reshape(2, 1, 1, 2)
      >>> result = pgd_attack(
      ...     lambda x: x.reshape(-1, 2), images, np.array([1, 1]), jax.random.key(0), epsilon=0.1
      ... )
      >>> result.summary()
      'robust: 50.00% (9.45 to 90.55), 1 of 2'
    """
    attack = make_pgd(
        lambda _, x: logits_fn(x),
        norm=norm,
        num_steps=num_steps,
        num_restarts=num_restarts,
        loss=loss,
        batch_size=batch_size,
    )
    size = epsilon / 4 if step_size is None else step_size
    return attack((), images, labels, key, epsilon, size)


def make_pgd(
    logits_fn: LogitsFn,
    *,
    norm: str,
    num_steps: int,
    num_restarts: int = 1,
    loss: str = "margin",
    batch_size: int,
) -> Callable[..., PGDResult]:
    """Makes a PGD attack, compiled once for all networks of one structure and all budgets.

    Random numbers belong to (key, position of the example, restart), so the result depends on
    neither batch size nor order of execution; a key that is not of threefry is made one. Everything
    runs at the highest matmul precision, on images of at least 32 bits.

    Args:
      logits_fn: `logits_fn(variables, images)`, with BatchNorm in inference mode, in float32.
      norm: a name in `threat_model.NORMS`.
      num_steps: gradient steps of each restart, at least 1.
      num_restarts: independent random starts, at least 1.
      loss: a name in `PGD_LOSSES`: `margin`, or `ce`, the cross-entropy (where the network is
          confident with a longer tail, or its gradient would vanish).
      batch_size: examples at a time; the last batch is padded to it.

    Returns:
      `attack(variables, images, labels, key, epsilon, step_size, progress=None)` to a
      `PGDResult`; images are uint8, scaled on the device, or floating point in [0, 1], and
      epsilon and step_size are in pixels of [0, 1]. It raises `InputError` if an argument is
      not allowed, and `RuntimeError` if an image it is about to return is not.

    Raises:
      InputError: if a name is unknown or a number is too small.

    Example:
      >>> attack = make_pgd(
      ...     lambda v, x: x.reshape(-1, 2) * v, norm="Linf", num_steps=5, batch_size=2
      ... )
      >>> images = np.array([[0, 255], [120, 135]], np.uint8).reshape(2, 1, 1, 2)
      >>> attack(1.0, images, np.array([1, 1]), jax.random.key(0), 0.1, 0.05).robust.tolist()
      [True, False]
    """
    draw = norm_named(norm).random_ball

    def random_start(keys: Array, images: Pixels, epsilon: Scalar) -> Pixels:
        unit = jax.vmap(lambda key: draw(key, images.shape[1:]))(keys)
        return project(images + epsilon * unit, images, norm=norm, epsilon=epsilon)

    loss_fn = lookup("loss", loss, PGD_LOSSES)
    attack = _Attack(logits_fn, loss_fn, random_start, norm, num_steps, num_restarts)
    return _over_dataset(attack, batch_size)


def make_fgsm(
    logits_fn: LogitsFn, *, norm: str, loss: str = "ce", batch_size: int
) -> Callable[..., PGDResult]:
    """Makes the fast gradient (sign) method: one step of size epsilon from the clean image.

    Args:
      logits_fn: as for `make_pgd`.
      norm: a name in `threat_model.NORMS`; the sign belongs to `Linf`.
      loss: a name in `PGD_LOSSES`.
      batch_size: examples at a time.

    Returns:
      `attack(variables, images, labels, epsilon, progress=None)` to a `PGDResult`.

    Raises:
      InputError: if a name is unknown or batch_size is too small.

    Example:
      >>> attack = make_fgsm(lambda v, x: x.reshape(-1, 2) * v, norm="Linf", batch_size=2)
      >>> image = np.array([0.25, 0.75], np.float32).reshape(1, 1, 1, 2)
      >>> print(attack(1.0, image, np.array([1]), 0.125).adversarial.ravel())
      [0.375 0.625]
    """

    def clean_start(keys: Array, images: Pixels, epsilon: Scalar) -> Pixels:
        return images

    single_step = _Attack(logits_fn, lookup("loss", loss, PGD_LOSSES), clean_start, norm, 1, 1)
    attack = _over_dataset(single_step, batch_size)

    def fgsm(
        variables: NetworkVariables,
        images: Images,
        labels: Labels,
        epsilon: float,
        progress: Progress | None = None,
    ) -> PGDResult:
        unused_key = jax.random.key(0)
        return attack(variables, images, labels, unused_key, epsilon, epsilon, progress)

    return fgsm


def _over_dataset(attack: _Attack, batch_size: int) -> Callable[..., PGDResult]:
    norm_named(attack.norm)
    for name, value in (("num_steps", attack.num_steps), ("num_restarts", attack.num_restarts)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    ask = Lifted(attack.logits_fn)
    compiled = jax.jit(functools.partial(_attack_batch, attack._replace(logits_fn=ask)))

    def run(
        variables: NetworkVariables,
        images: Images,
        labels: Labels,
        key: Array,
        epsilon: float,
        step_size: float,
        progress: Progress | None = None,
    ) -> PGDResult:
        threat = threat_model(attack.norm, epsilon)
        if not (math.isfinite(step_size) and step_size >= 0):
            raise InputError(f"step_size must be a finite number of at least 0, got {step_size}")
        if jnp.issubdtype(images.dtype, jnp.floating) and images.dtype.itemsize < 4:
            images = images.astype(jnp.float32)  # 16 bits would round a step past the budget
        key = threefry_key(key)

        def on_batch(batch: PaddedBatch) -> PGDResult:
            given = ask.with_arrays(variables, jax.eval_shape(pixels, batch.images))
            return compiled(given, batch, key, threat.epsilon, float(step_size))

        result = over_batches(
            on_batch,
            images,
            labels,
            batch_size=batch_size,
            progress=progress,
        )
        for first in range(0, len(labels), batch_size):
            part = slice(first, first + batch_size)
            require_allowed(result.adversarial[part], np.asarray(pixels(images[part])), threat)
        return PGDResult(*result)

    return run


def _attack_batch(
    attack: _Attack,
    variables: NetworkVariables,
    batch: PaddedBatch,
    key: Array,
    epsilon: Scalar,
    step_size: Scalar,
) -> PGDResult:
    """Pure: every restart on one batch, and the best candidate for each example."""
    images = pixels(batch.images)
    example_keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(batch.position)

    def assess(x: Pixels) -> _Candidate:
        logits = attack.logits_fn(variables, x)
        verdict = judge_logits(logits, batch.labels)
        loss = jnp.where(verdict.nonfinite, -jnp.inf, attack.loss_fn(logits, batch.labels))
        is_broken = ~verdict.correct & ~verdict.nonfinite
        return _Candidate(x, is_broken, loss, verdict.nonfinite)

    def restart(number: int, best: _Candidate) -> _Candidate:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(example_keys)
        last = projected_ascent(
            lambda x: jnp.sum(attack.loss_fn(attack.logits_fn(variables, x), batch.labels)),
            attack.start_fn(keys, images, epsilon),
            images,
            norm=attack.norm,
            epsilon=epsilon,
            step_size=step_size,
            num_steps=attack.num_steps,
        )
        return _better(best, assess(last))

    with jax.default_matmul_precision("highest"):
        clean = assess(images)
        # A broken clean image is kept; any iterate replaces one that is not broken.
        clean = clean._replace(loss=jnp.where(clean.is_broken, jnp.inf, -jnp.inf))
        best = jax.lax.fori_loop(0, attack.num_restarts, restart, clean)
    nonfinite = best.nonfinite & ~best.is_broken
    return PGDResult(~best.is_broken & ~nonfinite, best.images, nonfinite)


def _better(old: _Candidate, new: _Candidate) -> _Candidate:
    """The broken one, or of equals the one with the higher loss; what is not finite adds up."""
    is_equal = old.is_broken == new.is_broken
    is_new = (new.is_broken & ~old.is_broken) | (is_equal & (new.loss > old.loss))
    return _Candidate(
        jnp.where(is_new[:, None, None, None], new.images, old.images),
        old.is_broken | new.is_broken,
        jnp.where(is_new, new.loss, old.loss),
        old.nonfinite | new.nonfinite,
    )
