"""AutoAttack on one trained network, in a folder of its own.

    autoattack.json   autoattack.npz                   of one radius
    curve.json   curve.npz   curve.png   curve.svg     of several

The pictures are drawn where matplotlib is installed, of the extra `report`.
"""

import functools
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from rctaf_jax.config import AttackConfig
from rctaf_jax.errors import InputError
from rctaf_jax.eval.autoattack import AutoAttackResult, make_autoattack
from rctaf_jax.eval.autoattack.curve import RobustCurve, curve_of, sorted_radii
from rctaf_jax.eval.autoattack.ensemble import Engine, run_all
from rctaf_jax.eval.autoattack.versions import version_of
from rctaf_jax.experiments.show.progress import make_bars, show_attacks
from rctaf_jax.extras import missing
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
    norm, radii = radii_of(subject, config)
    images, labels = (leaf[: config.num_examples] for leaf in subject.dataset.test)
    attack = make_autoattack(
        subject.network.apply,
        norm=norm,
        version=config.version,
        attacks=config.attacks,
        individual=config.individual,
        batch_size=config.batch_size,
        # A CPU computes no faster in bfloat16.
        search=None if jax.default_backend() == "cpu" else subject.network.in_bfloat16,
        engine=engine,
    )
    with alone(folder), make_bars(console) as bars:
        on_network = functools.partial(
            attack,
            subject.network.variables,
            key=jax.random.key(config.seed),
            progress=show_attacks(bars),
        )
        if len(radii) > 1:
            curve = curve_of(on_network, images, labels, radii, folder)
            described = _describe_curve(subject, curve, norm)
            described |= provenance(subject, config, command)
            _save_curve(folder, curve, described)
            return described
        result = on_network(images, labels, epsilon=radii[0], directory=folder)
        described = _describe(subject, result, norm, radii[0])
        described |= provenance(subject, config, command)
        flags = {"robust": result.robust, "correct": result.correct, "nonfinite": result.nonfinite}
        write_arrays(folder / IMAGES, {**flags, "adversarial": result.adversarial})
        write_json(folder / "autoattack.json", described)
    return described


def radii_of(subject: Subject, config: AttackConfig) -> tuple[str, tuple[float, ...]]:
    """Norm and radii, those of training where none are stated.

    Raises:
      InputError: if a radius is missing or given twice, or the known one is of another norm.
    """
    stated = config.epsilon
    if stated is not None and len(stated) > 1:
        return radius(subject, config.norm, stated[0])[0], sorted_radii(stated)
    norm, epsilon = radius(subject, config.norm, stated[0] if stated else None)
    return norm, (epsilon,)


def check_attack(config: AttackConfig) -> None:
    """Refuse an attack that cannot run.

    Raises:
      InputError: naming the value that cannot be.
    """
    check_positive(num_examples=config.num_examples, attack_batch=config.batch_size)
    for epsilon in () if config.epsilon is None else config.epsilon:
        check_positive(epsilon=epsilon)
    if config.epsilon is not None:
        sorted_radii(config.epsilon)
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
    described = _describe_network(subject) | {
        "eps": _budget(epsilon),
        "clean_acc": f"{100 * result.clean_accuracy:.2f}",
        "reported": "",
        "autoattack_acc": f"{100 * result.robust_accuracy:.2f}",
        "threat_model": {"norm": norm, "epsilon": epsilon},
        "num_examples": len(result.robust),
        "num_nonfinite": int(result.nonfinite.sum()),
        "warnings": list(result.warnings),
    }
    for name, flags in (("clean", result.correct), ("robust", result.robust)):
        described |= describe_accuracy(name, int(flags.sum()), len(flags))
    described["by_class"] = [row._asdict() for row in result.by_class()]
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


def _describe_curve(subject: Subject, curve: RobustCurve, norm: str) -> dict[str, Any]:
    """Accuracies with intervals, radius by radius."""
    total = len(curve.correct)
    rows = [
        {"eps": _budget(epsilon), "epsilon": epsilon}
        | describe_accuracy("robust", int(flags.sum()), total)
        for epsilon, flags in zip(curve.epsilons, curve.robust, strict=True)
    ]
    return (
        _describe_network(subject)
        | {"threat_model": {"norm": norm, "epsilon": list(curve.epsilons)}, "num_examples": total}
        | describe_accuracy("clean", int(curve.correct.sum()), total)
        | {"radii": rows, "warnings": list(curve.warnings)}
    )


def _save_curve(folder: Path, curve: RobustCurve, described: dict[str, Any]) -> None:
    arrays = {name: getattr(curve, name) for name in ("robust", "correct", "adversarial")}
    write_arrays(folder / "curve.npz", {**arrays, "broken_at": curve.broken_at})
    if not missing(["matplotlib"]):
        from rctaf_jax.experiments.show.plotting import save_figure
        from rctaf_jax.experiments.show.radius_figure import radius_figure

        save_figure(radius_figure(described), folder / "curve")
    write_json(folder / "curve.json", described)


def _describe_network(subject: Subject) -> dict[str, Any]:
    """What `model_info` says of a network."""
    network = subject.network
    activation = "" if network.activation is None else network.activation.text
    architecture = network.model or ""
    width = "" if network.width == 1 else f", width {network.width}"
    return {
        "link": "",
        "name": f"{subject.method}, {activation}" if subject.method else Path(subject.name).name,
        "authors": "",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": subject.dataset.name,
        "venue": "",
        "architecture": f"{architecture}{width}",
    }


def _budget(epsilon: float) -> str:
    """As people write it: 8/255 where it is a whole number of grey levels."""
    levels = 255 * epsilon
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{epsilon:g}"
