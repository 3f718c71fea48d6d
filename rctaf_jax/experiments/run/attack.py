"""AutoAttack on one trained network: `autoattack.json` and `autoattack.npz` in its own folder."""

from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from rctaf_jax.config import AttackConfig
from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack import AutoAttackResult, make_autoattack
from rctaf_jax.eval.autoattack.ensemble import Engine, run_all
from rctaf_jax.eval.autoattack.versions import version_of
from rctaf_jax.experiments.show.progress import make_bars, show_attacks
from rctaf_jax.files import write_arrays, write_json
from rctaf_jax.locks import alone
from rctaf_jax.values import check_positive, check_seed

from .evaluate import describe_accuracy
from .subject import Subject, provenance, radius

IMAGES = "autoattack.npz"


def attack_network(
    subject: Subject,
    config: AttackConfig,
    folder: Path,
    command: str,
    console: Console,
    engine: Engine = run_all,
) -> dict[str, Any]:
    """Robust accuracy of a network under AutoAttack.

    Args:
      subject: the network, and the images.
      config: which attacks, on how many images.
      folder: for the results, and for what must be kept to go on after an interruption.
      command: the command line, for the record.
      console: for the progress.
      engine: runs the attacks, here or elsewhere.

    Returns:
      What `autoattack.json` says; per-image flags and the adversarial images go to
      `autoattack.npz`.

    Raises:
      InputError: if the folder or the configuration is no good.
    """
    check_attack(config)
    norm, epsilon = radius(subject, config.norm, config.epsilon)
    images, labels = (leaf[: config.num_examples] for leaf in subject.dataset.test)
    attack = make_autoattack(
        subject.network.apply,
        norm=norm,
        version=config.version,
        attacks=config.attacks,
        individual=config.individual,
        batch_size=config.batch_size,
        engine=engine,
    )
    key = jax.random.key(config.seed)
    with alone(folder), make_bars(console) as bars:
        result = attack(
            subject.network.variables,
            images,
            labels,
            key,
            epsilon,
            directory=folder,
            progress=show_attacks(bars),
        )
        described = _describe(subject, result, norm, epsilon)
        described |= provenance(subject, config, command)
        flags = {"robust": result.robust, "correct": result.correct, "nonfinite": result.nonfinite}
        write_arrays(folder / IMAGES, {**flags, "adversarial": result.adversarial})
        write_json(folder / "autoattack.json", described)
    return described


def check_attack(config: AttackConfig) -> None:
    """Refuse an attack that cannot run.

    Raises:
      InputError: naming the value that cannot be.
    """
    check_positive(
        epsilon=config.epsilon, num_examples=config.num_examples, attack_batch=config.batch_size
    )
    check_seed(config.seed)
    if version_of(config.version).is_random:
        raise InputError(
            f"version {config.version} is for networks that draw random numbers, which those of "
            "rctaf train do not: choose standard or plus."
        )


def _describe(
    subject: Subject, result: AutoAttackResult, norm: str, epsilon: float
) -> dict[str, Any]:
    """The keys of RobustBench's `model_info` (text, accuracies in per cent), then our own."""
    network, num_examples = subject.network, len(result.robust)
    activation = "" if network.activation is None else network.activation.text
    architecture = network.model or ""
    described: dict[str, Any] = {
        "link": "",
        "name": f"{subject.method}, {activation}" if subject.method else Path(subject.name).name,
        "authors": "",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": subject.dataset.name,
        "venue": "",
        "architecture": architecture
        if network.width == 1
        else f"{architecture}, width {network.width}",
        "eps": _budget(epsilon),
        "clean_acc": f"{100 * result.clean_accuracy:.2f}",
        "reported": "",
        "autoattack_acc": f"{100 * result.robust_accuracy:.2f}",
        "threat_model": {"norm": norm, "epsilon": epsilon},
        "num_examples": num_examples,
        "num_nonfinite": int(result.nonfinite.sum()),
        "warnings": list(result.warnings),
    }
    for name, flags in (("clean", result.correct), ("robust", result.robust)):
        described |= describe_accuracy(name, int(flags.sum()), num_examples)
    described["attacks"] = [
        {
            "name": report.name,
            "num_attacked": int(report.attacked.sum()),
            "num_broken": int(report.broken.sum()),
            "accuracy": report.accuracy,
            "seconds": report.seconds,
            "forward_passes": report.forward_passes,
            "backward_passes": report.backward_passes,
        }
        for report in result.attacks
    ]
    return described


def _budget(epsilon: float) -> str:
    """As people write it: 8/255 where it is a whole number of grey levels."""
    levels = 255 * epsilon
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"
