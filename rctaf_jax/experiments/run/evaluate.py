"""Measuring one trained network: a folder for each way of measuring it.

    evaluations/<what>/evaluation.json  outcomes.npz

A sweep's own outcomes.npz, by which claims are judged, lies elsewhere and is never touched.
"""

import dataclasses
from pathlib import Path
from typing import Any

from rctaf_jax.batching import fit_batch
from rctaf_jax.config import EvaluationConfig
from rctaf_jax.eval.accuracy import wilson_interval
from rctaf_jax.files import write_arrays, write_json
from rctaf_jax.locks import alone

from .measure import ImageOutcomes, check_evaluation, describe_attack, make_evaluate
from .subject import Subject, provenance

FOLDER = "evaluations"


def evaluate_network(
    subject: Subject,
    config: EvaluationConfig,
    threat: tuple[str, float],
    output: Path | None,
    command: str,
) -> tuple[dict[str, Any], Path]:
    """Clean and robust accuracy of a network on test images.

    Of the averaged weights where a run averages them, with those as trained beside them.

    Args:
      subject: what is measured.
      config: how.
      threat: norm and epsilon, see `subject.radius`.
      output: folder for the results; evaluations/<what>/ in the subject's own if None.
      command: the command line, for the record.

    Returns:
      What `evaluation.json` says, and its path; per-image outcomes go to `outcomes.npz` beside it.

    Raises:
      InputError: if the configuration is no good.
    """
    check_evaluation(config)
    norm, epsilon = threat
    size = fit_batch(config.batch_size, len(subject.dataset.test.labels))
    fitted = dataclasses.replace(config, batch_size=size)
    evaluate = make_evaluate(fitted, subject.network.apply, norm, epsilon)
    outcomes = evaluate(subject.network.variables, subject.dataset.test)
    result: dict[str, Any] = {
        "attack": f"{describe_attack(config)}, {norm} {epsilon:.4g}",
        "weights": "as trained" if subject.as_trained is None else "averaged",
        **describe_outcomes(outcomes),
    }
    if subject.as_trained is not None:
        as_trained = evaluate(subject.as_trained, subject.dataset.test)
        result["as_trained"] = describe_outcomes(as_trained)
    result |= provenance(subject, config, command)
    folder = output or subject.folder / FOLDER / slug(config)
    with alone(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / "outcomes.npz", outcomes._asdict())
        return result, write_json(folder / "evaluation.json", result)


def slug(config: EvaluationConfig) -> str:
    """A folder's name for a way of measuring.

    >>> slug(EvaluationConfig()), slug(EvaluationConfig(attack="autoattack"))
    ('pgd-20x1-margin', 'autoattack')
    """
    if config.attack == "autoattack":
        return config.attack
    size = "" if config.pgd_step_size is None else f"-step{config.pgd_step_size:.4g}"
    return f"pgd-{config.pgd_steps}x{config.pgd_restarts}-{config.pgd_loss}{size}"


def describe_outcomes(outcomes: ImageOutcomes) -> dict[str, Any]:
    """Counts, accuracies and 95% Wilson intervals of one set of weights."""
    num_test = len(outcomes.robust)
    described: dict[str, Any] = {
        "num_test": num_test,
        "nonfinite": int(outcomes.nonfinite.sum()),
    }
    for name, flags in (("clean", outcomes.clean_correct), ("robust", outcomes.robust)):
        described |= describe_accuracy(name, int(flags.sum()), num_test)
    return described


def describe_accuracy(name: str, correct: int, total: int) -> dict[str, Any]:
    """A count, the accuracy, and its 95% Wilson interval, for JSON.

    >>> describe_accuracy("clean", 3, 4)["clean_accuracy"]
    0.75
    """
    return {
        f"{name}_correct": correct,
        f"{name}_accuracy": correct / total,
        f"{name}_interval": list(wilson_interval(correct, total)),
    }
