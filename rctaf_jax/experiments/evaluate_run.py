"""Measuring one trained network: `evaluation.json` and `hessian.json` in its folder."""

from pathlib import Path
from typing import Any

from rich.console import Console

from rctaf_jax.config import EvaluationConfig, HessianConfig, as_json
from rctaf_jax.files import write_arrays, write_json

from ..eval.accuracy import wilson_interval
from .environment import describe_environment
from .measure import (
    check_evaluation,
    check_hessian,
    describe_attack,
    describe_hessian,
    hessian_split,
    make_estimate_hessian,
    make_evaluate,
)
from .progress import make_bars
from .run_folder import Run, open_run


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
    """Clean and PGD accuracy of a run's newest checkpoint on its test images.

    Returns:
      What `evaluation.json` says; per-image outcomes go to `outcomes.npz`.

    Raises:
      InputError: if the folder, its checkpoint or the configuration is no good.
    """
    check_evaluation(config)
    run = open_run(folder)
    classes = run.dataset.num_classes
    evaluate = make_evaluate(config, run.config.train, run.activation, classes)
    outcomes = evaluate(run.state.variables, run.dataset.test)
    num_test = len(outcomes.robust)
    counts = {"clean": outcomes.clean_correct.sum(), "robust": outcomes.robust.sum()}
    train = run.config.train
    result: dict[str, Any] = {
        "attack": f"{describe_attack(config)}, {train.norm} {train.epsilon:.4g}",
        "num_test": num_test,
        "nonfinite": int(outcomes.nonfinite.sum()),
    }
    for name, count in counts.items():
        result[f"{name}_correct"] = int(count)
        result[f"{name}_accuracy"] = int(count) / num_test
        result[f"{name}_interval"] = list(wilson_interval(int(count), num_test))
    result |= provenance(run, config, command)
    write_arrays(folder / "outcomes.npz", outcomes._asdict())
    write_json(folder / "evaluation.json", result)
    return result


def hessian_run(
    folder: Path, config: HessianConfig, command: str, console: Console
) -> dict[str, Any]:
    """The Hessian norm of a run's newest checkpoint over its training images.

    Returns:
      What `hessian.json` says.

    Raises:
      InputError: if the folder, its checkpoint or the configuration is no good.
    """
    check_hessian(config)
    run = open_run(folder)
    split = hessian_split(config, run.dataset)
    estimate_hessian = make_estimate_hessian(
        config, run.config.train, run.activation, run.dataset.num_classes
    )
    with make_bars(console) as bars:
        task = bars.add_task("probes", total=config.probes, note="")
        result = estimate_hessian(
            run.state.variables, split, lambda done, _: bars.update(task, completed=done)
        )
    described = describe_hessian(result, len(split.labels)) | provenance(run, config, command)
    write_json(folder / "hessian.json", described)
    return described
