"""Where numbers were made: versions, device, commit, command."""

import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import rctaf_jax

PACKAGES = ("rctaf-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def package_versions() -> dict[str, str]:
    """Of the packages that the numbers depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def describe_environment(command: str) -> dict[str, Any]:
    """What a results folder says about the machine and the software that made it."""
    return {
        "versions": {"python": platform.python_version(), **package_versions()},
        "device": describe_devices(),
        "platform": platform.platform(),
        "commit": current_commit(),
        "command": command,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def device_and_versions(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What numbers may depend on, of `describe_environment`'s values or older ones, by name."""
    return {"device": environment.get("device"), **environment.get("versions", {})}


def describe_devices() -> str:
    """Kind and number of the accelerators, such as `cpu x 1`."""
    devices = jax.local_devices()
    return f"{devices[0].device_kind} x {len(devices)}"


def free_memory() -> int | None:
    """Bytes that the first device can still take; None where the system does not say."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats["bytes_in_use"])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(available[0]) if available else None


def current_commit() -> str | None:
    """The commit of the checkout this package runs from, None if it was installed without one."""
    root = Path(rctaf_jax.__file__).resolve().parent.parent  # an editable install is of links
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
