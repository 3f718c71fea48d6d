"""What is measured of a trained network: clean and robust accuracy, and the Hessian norm (8).

Everything is compiled once for all networks of one structure, and runs in float32 at the highest
matmul precision whatever the network was trained in.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, PyTree

from rctaf_jax.activations import Activation
from rctaf_jax.config import EvaluationConfig, HessianConfig, TrainConfig
from rctaf_jax.data import Dataset, Split, subset
from rctaf_jax.errors import InputError
from rctaf_jax.eval.accuracy import make_clean_evaluation
from rctaf_jax.eval.autoattack import make_autoattack
from rctaf_jax.eval.pgd import make_pgd
from rctaf_jax.eval.verdict import LogitsFn
from rctaf_jax.hessian import HessianEstimate, MeanSquare, estimate, init, make_dataset_product, run
from rctaf_jax.losses import cross_entropy
from rctaf_jax.models import create
from rctaf_jax.values import check_positive

ATTACK_SEED = 0
AUTOATTACK_BATCH = 128
"""Slots at most: with fewer slots than images, those that are broken early make room."""
PROBE_SEED = 0


class ImageOutcomes(NamedTuple):
    """Per test image: right when clean, still right under attack, no finite logits."""

    clean_correct: Bool[np.ndarray, " N"]
    robust: Bool[np.ndarray, " N"]
    nonfinite: Bool[np.ndarray, " N"]


Evaluate = Callable[[PyTree, Split], ImageOutcomes]
EstimateHessian = Callable[..., HessianEstimate]


def check_evaluation(config: EvaluationConfig) -> None:
    """Refuse an evaluation that cannot run.

    Raises:
      InputError: naming the value that cannot be.
    """
    check_positive(
        pgd_steps=config.pgd_steps,
        pgd_restarts=config.pgd_restarts,
        pgd_step_size=config.pgd_step_size,
        evaluation_batch=config.batch_size,
    )


def check_hessian(config: HessianConfig) -> None:
    """Refuse a Hessian estimate that cannot run.

    Raises:
      InputError: naming the value that cannot be.
    """
    check_positive(
        hessian_batch=config.batch_size,
        hessian_examples=config.num_examples,
        probes=config.num_probes if config.num_probes > 0 else None,
    )
    if config.num_probes < 2 and config.num_probes != 0:
        raise InputError(
            "probes must be 2 or more, since one probe has no standard error, or 0 for no Hessian "
            f"norm; received {config.num_probes}."
        )


def make_logits(
    train: TrainConfig, activation: Activation, num_classes: int
) -> Callable[..., Array]:
    """`logits(variables, images)` in float32, BatchNorm in inference mode."""
    model = create(
        train.model,
        num_classes=num_classes,
        activation=activation,
        width=train.width,
        mean=train.mean,
        std=train.std,
    )

    def logits(variables: PyTree, images: Array) -> Array:
        return model.apply(variables, images, train=False)[0]

    return logits


def make_evaluate(
    config: EvaluationConfig, logits: LogitsFn, norm: str, epsilon: float
) -> Evaluate:
    """Clean and robust accuracy, image by image, of any network of one structure."""
    return _EVALUATIONS[config.attack](config, logits, norm, epsilon)


def _with_pgd(config: EvaluationConfig, logits: LogitsFn, norm: str, epsilon: float) -> Evaluate:
    clean = make_clean_evaluation(logits, batch_size=config.batch_size)
    attack = make_pgd(
        logits,
        norm=norm,
        num_steps=config.pgd_steps,
        num_restarts=config.pgd_restarts,
        loss=config.pgd_loss,
        batch_size=config.batch_size,
    )
    step_size = epsilon / 4 if config.pgd_step_size is None else config.pgd_step_size

    def evaluate(variables: PyTree, split: Split) -> ImageOutcomes:
        key = jax.random.key(ATTACK_SEED)
        plain = clean(variables, split.images, split.labels)
        result = attack(variables, split.images, split.labels, key, epsilon, step_size)
        return ImageOutcomes(plain.correct, result.robust, plain.nonfinite | result.nonfinite)

    return evaluate


def _with_autoattack(
    config: EvaluationConfig, logits: LogitsFn, norm: str, epsilon: float
) -> Evaluate:
    size = min(config.batch_size, AUTOATTACK_BATCH)
    attack = make_autoattack(logits, norm=norm, batch_size=size)

    def evaluate(variables: PyTree, split: Split) -> ImageOutcomes:
        key = jax.random.key(ATTACK_SEED)
        result = attack(variables, split.images, split.labels, key, epsilon)
        return ImageOutcomes(result.correct, result.robust, result.nonfinite)

    return evaluate


_EVALUATIONS = {"pgd": _with_pgd, "autoattack": _with_autoattack}


def describe_attack(config: EvaluationConfig) -> str:
    """An evaluation's attack in a few words.

    Example:
      >>> describe_attack(EvaluationConfig())
      'PGD-20 x 1, margin'
    """
    if config.attack == "autoattack":
        return "AutoAttack"
    return f"PGD-{config.pgd_steps} x {config.pgd_restarts}, {config.pgd_loss}"


def make_losses(logits: LogitsFn) -> Callable[[PyTree, PyTree, Array, Array], Array]:
    """`losses(params, rest, images, labels)`: cross-entropies of a network's logits."""

    def losses(params: PyTree, rest: PyTree, images: Array, labels: Array) -> Array:
        return cross_entropy(logits({**rest, "params": params}, images), labels)

    return losses


def make_estimate_hessian(config: HessianConfig, logits: LogitsFn) -> EstimateHessian:
    """Hutchinson's estimate of the Hessian's diagonal, of any network of one structure.

    Of the mean cross-entropy over clean training images, BatchNorm in inference mode.

    Returns:
      `estimate_hessian(variables, split, progress=None, num_probes=config.num_probes)`; `split` is
      `hessian_split`'s.
    """
    losses = make_losses(logits)
    bind = make_dataset_product(losses, batch_size=config.batch_size)

    def estimate_hessian(
        variables: PyTree,
        split: Split,
        progress: Callable[[int, int], None] | None = None,
        num_probes: int = config.num_probes,
    ) -> HessianEstimate:
        rest = {name: value for name, value in variables.items() if name != "params"}
        product = bind(variables["params"], rest, split.images, split.labels)
        key, probes = jax.random.key(PROBE_SEED), range(num_probes)
        state = init(variables["params"])
        return estimate(run(state, product, probes, key, progress=progress))

    return estimate_hessian


def hessian_split(num_examples: int | None, dataset: Dataset) -> Split:
    """The training images of the Hessian's loss: at most so many, the classes balanced."""
    if num_examples is None:
        return dataset.train
    return subset(dataset, min(num_examples, len(dataset.train.labels)), None).train


def finite_or_none(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return float(value) if math.isfinite(value) else None


def describe_mean_square(mean_square: MeanSquare) -> dict[str, Any]:
    """The metric's square q, its root (8), and their standard errors; None where undefined."""
    return {
        "mean_square": float(mean_square.q),
        "mean_square_standard_error": finite_or_none(mean_square.standard_error),
        "mean_square_interval": [finite_or_none(end) for end in mean_square.interval],
        "rms": finite_or_none(mean_square.rms),
        "rms_standard_error": finite_or_none(mean_square.rms_standard_error),
        "num_parameters": mean_square.size,
    }


def describe_hessian(result: HessianEstimate, num_examples: int) -> dict[str, Any]:
    """An estimate for JSON, layer by layer."""
    return {
        **describe_mean_square(result.mean_square),
        "num_probes": result.num_probes,
        "num_products": result.num_products,
        "num_examples": num_examples,
        "layers": [{"name": name, **describe_mean_square(part)} for name, part in result.layers],
    }
