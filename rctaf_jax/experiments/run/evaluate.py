"""Measuring one trained network: `evaluation.json` and `outcomes.npz` in its folder."""

from pathlib import Path
from typing import Any

from rctaf_jax.config import EvaluationConfig, as_json
from rctaf_jax.eval.accuracy import wilson_interval
from rctaf_jax.files import write_arrays, write_json
from rctaf_jax.locks import alone

from .environment import describe_environment
from .folder import Run, open_run
from .measure import Outcomes, check_evaluation, describe_attack, make_evaluate


def provenance(run: Run, config: Any, command: str) -> dict[str, Any]:
    """What every result of a run says of its origin."""
    return {
        "activation": run.config.activation,
        "step": int(run.state.step),
        "data_source": run.dataset.source,
        "config": as_json(config),
        "environment": describe_environment(command),
    }


def evaluate_run(folder: Path, config: EvaluationConfig, command: str) -> dict[str, Any]:
    """Clean and robust accuracy of a run's newest checkpoint on its test images.

    Of the averaged weights where the run averages them, with those as trained beside them.

    Returns:
      What `evaluation.json` says; per-image outcomes go to `outcomes.npz`.

    Raises:
      InputError: if the folder, its checkpoint or the configuration is no good.
    """
    check_evaluation(config)
    run = open_run(folder)
    classes = run.dataset.num_classes
    evaluate = make_evaluate(config, run.config.train, run.activation, classes)
    outcomes = evaluate(run.state.final_variables, run.dataset.test)
    train = run.config.train
    result: dict[str, Any] = {
        "attack": f"{describe_attack(config)}, {train.norm} {train.epsilon:.4g}",
        "weights": "averaged" if run.state.averaged else "as trained",
        **describe_outcomes(outcomes),
    }
    if run.state.averaged:
        as_trained = evaluate(run.state.variables, run.dataset.test)
        result["as_trained"] = describe_outcomes(as_trained)
    result |= provenance(run, config, command)
    with alone(folder):
        write_arrays(folder / "outcomes.npz", outcomes._asdict())
        write_json(folder / "evaluation.json", result)
    return result


def describe_outcomes(outcomes: Outcomes) -> dict[str, Any]:
    """Counts, accuracies and 95% Wilson intervals of one set of weights."""
    num_test = len(outcomes.robust)
    described: dict[str, Any] = {
        "num_test": num_test,
        "nonfinite": int(outcomes.nonfinite.sum()),
    }
    for name, flags in (("clean", outcomes.clean_correct), ("robust", outcomes.robust)):
        count = int(flags.sum())
        described[f"{name}_correct"] = count
        described[f"{name}_accuracy"] = count / num_test
        described[f"{name}_interval"] = list(wilson_interval(count, num_test))
    return described
