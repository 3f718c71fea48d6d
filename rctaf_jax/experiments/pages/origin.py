"""Where a study's numbers come from: its settings, devices and versions, and what it cost."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rctaf_jax.experiments.results.rows import Results, read_environment
from rctaf_jax.experiments.results.studies import Study
from rctaf_jax.experiments.run.environment import device_and_versions
from rctaf_jax.experiments.show import wording

_PHASES = {"train": "training", "evaluate": "evaluation", "hessian": "Hessian norm"}


def settings(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The configuration as lines of name and value."""
    lines: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            lines += settings(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            lines.append((prefix + key, ", ".join(map(str, value)) or "none"))
        else:
            lines.append((prefix + key, "not set" if value is None else str(value)))
    return lines


def where_trained(study: Study) -> str | None:
    """Devices and versions that networks were trained with, if not all are the folder's own.

    A network without an environment.json counts as trained with the folder's own.
    """
    results = study.results
    own = device_and_versions(results.environment)
    paths = [study.folder / "members" / row.id / "environment.json" for row in results.rows]
    members = [
        device_and_versions(read_environment(path)) if path.exists() else own for path in paths
    ]
    differing = []
    for name in own:
        counts = Counter(member.get(name) for member in members)
        if counts.keys() != {own[name]}:
            listed = (f"{value} ({wording.count(n, 'network')})" for value, n in counts.items())
            differing.append(f"{name} {', '.join(listed)}")
    if not differing:
        return None
    return f"Where networks were trained, as far as it is not as above: {'; '.join(differing)}."


def costs(results: Results) -> list[tuple[str, str]]:
    """Time by phase, summed over members, the sum of all, and how fast they trained."""
    total: dict[str, float] = {}
    for row in results.rows:
        for phase, seconds in (row.seconds or {}).items():
            total[phase] = total.get(phase, 0.0) + (seconds or 0.0)
    lines = [(_PHASES.get(phase, phase), wording.duration(spent)) for phase, spent in total.items()]
    lines.append(("together", wording.duration(sum(total.values()))))
    device = str(results.environment["device"])
    if not device.startswith("cpu"):
        hours = sum(total.values()) / 3600
        lines.append(("accelerator-hours", f"{hours:.2f} ({device}, all of them while it ran)"))
    if total.get("train"):
        images = results.config.train.batch_size * sum(row.steps or 0 for row in results.rows)
        lines.append(("training images per second", f"{images / total['train']:,.0f}"))
    return lines
