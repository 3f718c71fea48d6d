"""Robust accuracy over several radii, each image attacked no further than it withstands.

An image that is broken at one radius is broken at every larger one, since the ball holds the
smaller one's: so radii are gone through from the smallest, with the images that are left.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float

from rctaf_jax.batching import Images, Labels
from rctaf_jax.errors import InputError
from rctaf_jax.eval.accuracy import Interval, share_line, wilson_interval
from rctaf_jax.eval.verdict import NetworkVariables
from rctaf_jax.values import parse_number

from .inputs import checked_examples
from .interface import AttackWatcher, make_autoattack
from .result import AutoAttackResult


class RobustCurve(NamedTuple):
    """What became of each of N images at each of R radii.

    Attributes:
      epsilons: the radii, from the smallest.
      robust: whether it withstood, radius by radius.
      correct: whether the clean image is classified correctly.
      adversarial: a misclassified image of the smallest radius that has one, else the clean one.
      warnings: sentences about what makes the result doubtful, each with its radius.
    """

    epsilons: tuple[float, ...]
    robust: Bool[np.ndarray, "R N"]
    correct: Bool[np.ndarray, " N"]
    adversarial: Float[np.ndarray, "N H W C"]
    warnings: tuple[str, ...]

    @property
    def robust_accuracy(self) -> Float[np.ndarray, " R"]:
        """Over all images, radius by radius."""
        return self.robust.mean(axis=1)

    @property
    def intervals(self) -> list[Interval]:
        """Wilson's 95% intervals, radius by radius."""
        return [wilson_interval(int(flags.sum()), len(flags)) for flags in self.robust]

    @property
    def broken_at(self) -> Float[np.ndarray, " N"]:
        """The smallest radius at which an image did not withstand: 0 clean, infinite at none."""
        fell = np.vstack([~self.robust, np.ones(len(self.correct), bool)])
        radii = np.array([*self.epsilons, np.inf])
        return np.where(self.correct, radii[fell.argmax(axis=0)], 0)

    def summary(self) -> str:
        """A line each for the clean accuracy, every radius, and every doubt."""
        total = len(self.correct)
        lines = [share_line("clean", int(self.correct.sum()), total)]
        lines += [
            share_line(f"robust at {epsilon:.6g}", int(flags.sum()), total)
            for epsilon, flags in zip(self.epsilons, self.robust, strict=True)
        ]
        return "\n".join([*lines, *(f"doubt: {sentence}" for sentence in self.warnings)])


def robust_curve(
    logits_fn: Callable[..., Float[Array, "B classes"]],
    images: Images,
    labels: Labels,
    key: Array,
    epsilons: Sequence[float | str],
    *,
    norm: str = "Linf",
    batch_size: int = 128,
    directory: str | Path | None = None,
    progress: AttackWatcher | None = None,
    **settings: Any,
) -> RobustCurve:
    """AutoAttack at several radii in one call.

    Args:
      logits_fn, images, labels, key, norm, batch_size: as for `autoattack`.
      epsilons: the radii, in any order, in pixels of [0, 1], or text such as "8/255".
      directory: where to keep what is done, a folder for each radius.
      progress: called every now and then, of the radius under way.
      settings: others of `make_autoattack`.

    Raises:
      InputError: as `autoattack` does, and where a radius is given twice, or none.

    Example:
      >>> import jax
      >>> images = np.array([[0.1, 0.9], [0.42, 0.58]], np.float32).reshape(2, 1, 1, 2)
      >>> curve = robust_curve(
      ...     lambda x: 4 * x.reshape(-1, 2), images, np.array([1, 1]), jax.random.key(0),
      ...     ["0.1", 0.05], attacks="apgd-ce", batch_size=2,
      ... )
      >>> curve.epsilons, curve.robust.tolist(), curve.broken_at.tolist()
      ((0.05, 0.1), [[True, True], [True, False]], [inf, 0.1])
    """

    def ignoring_variables(_: NetworkVariables, images: Array, *keys: Array) -> Array:
        return logits_fn(images, *keys)

    run = make_autoattack(ignoring_variables, norm=norm, batch_size=batch_size, **settings)
    attack = functools.partial(run, (), key=key, progress=progress)
    return curve_of(attack, images, labels, epsilons, directory)


def curve_of(
    attack: Callable[..., AutoAttackResult],
    images: Images,
    labels: Labels,
    epsilons: Sequence[float | str],
    directory: str | Path | None,
) -> RobustCurve:
    """The curve of one network.

    Args:
      attack: `attack(images=, labels=, epsilon=, directory=)`, from `make_autoattack`.
      images, labels, epsilons, directory: as for `robust_curve`.
    """
    radii = sorted_radii(epsilons)
    images, labels = checked_examples(images, labels)
    left, total = np.arange(len(labels)), len(labels)
    correct, adversarial = np.zeros(total, bool), None
    rows, doubts = [], []
    for epsilon in radii:
        robust = np.zeros(total, bool)
        rows.append(robust)
        if adversarial is not None and not len(left):
            continue
        folder = None if directory is None else Path(directory) / f"epsilon-{epsilon:.6g}"
        result = attack(images=images[left], labels=labels[left], epsilon=epsilon, directory=folder)
        if adversarial is None:
            correct, adversarial = result.correct, result.adversarial
        adversarial[left] = result.adversarial
        robust[left] = result.robust
        doubts += [f"epsilon {epsilon:.6g}: {sentence}" for sentence in result.warnings]
        left = left[result.robust | (result.nonfinite & result.correct)]
    assert adversarial is not None
    return RobustCurve(radii, np.array(rows), correct, adversarial, tuple(doubts))


def sorted_radii(epsilons: Sequence[float | str]) -> tuple[float, ...]:
    """The radii as numbers, from the smallest.

    Raises:
      InputError: if there is none, or one twice.
    """
    if isinstance(epsilons, str | int | float):
        epsilons = [epsilons]
    radii = sorted(parse_number(one) if isinstance(one, str) else float(one) for one in epsilons)
    if not radii or len(set(radii)) < len(radii):
        shown = ", ".join(map(str, epsilons)) or "nothing"
        raise InputError(f"epsilon is {shown}: expected one radius or more, each once")
    return tuple(radii)
