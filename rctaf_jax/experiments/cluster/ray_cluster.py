"""Ray, imported late, and a cluster, joined or started for as long as it is needed."""

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from typing import Any

import jax

from rctaf_jax.config import EngineConfig
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.run.environment import package_versions

CONNECT_SECONDS = 10.0
"""After which nobody listens; Ray itself would try for minutes and log each try."""


def import_ray() -> Any:
    """The package `ray`, which few need.

    Raises:
      InputError: if it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--engine ray needs Ray, which is not installed: pip install 'rctaf-jax[ray]'."
        ) from None
    return ray


def is_wanted(config: EngineConfig) -> bool:
    """Whether work goes to a cluster; this process then keeps off the accelerators.

    Call it before anything uses JAX.

    Raises:
      InputError: if there is an address and no Ray, or Ray is not installed.
    """
    if config.engine == "local":
        if config.address is not None:
            raise InputError(
                f"address {config.address} is that of a Ray cluster: give --engine ray too."
            )
        return False
    import_ray()
    # Merely started, JAX takes most of a GPU's memory, which tasks on this machine need.
    jax.config.update("jax_platforms", "cpu")
    return True


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Join the cluster at `address` or RAY_ADDRESS, else start one, for as long as this lasts.

    Raises:
      InputError: if no cluster answers or starts in time, or one with another Python, Ray or token.
    """
    ray = import_ray()
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise InputError(
            f"address {address} is a Ray Client server's, which cannot stream results: give "
            "HOST:PORT of the cluster, on a machine that belongs to it."
        )
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        call(address)
        with warnings.catch_warnings():
            # JAX warns of any fork; Ray's processes become other programs at once.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    # Ray raises a bare Exception where its own processes are slow to start.
    except Exception as error:
        ray.shutdown()
        reason = " ".join(str(error).split())
        raise InputError(
            f"no Ray cluster can be joined at {address} ({reason}): start one by "
            "`ray start --head`, with the same Python, Ray and authentication token as here."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def call(address: str) -> None:
    """Find out at once whether anybody listens at HOST:PORT; other addresses are Ray's to judge.

    Raises:
      OSError: if nobody does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()


def num_devices(kind: str) -> int:
    """How many "GPU" or "CPU" the joined cluster has."""
    return int(import_ray().cluster_resources().get(kind, 0))


def has_gpus() -> bool:
    """Whether the joined cluster has GPUs, of which each task then takes one."""
    return num_devices("GPU") > 0


def check_versions(expected: dict[str, str]) -> None:
    """Refuse, on a node, to mix numbers of different versions.

    Raises:
      InputError: naming the first package whose version is not the expected one.
    """
    here = package_versions()
    for name, version in expected.items():
        if here[name] != version:
            raise InputError(
                f"a node of the Ray cluster has {name} {here[name]}, this machine has {version}: "
                "install the same versions on all."
            )
