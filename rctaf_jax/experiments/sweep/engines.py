"""Where the members of a sweep are trained: which function does it."""

import functools

import jax

from rctaf_jax.config import EngineConfig
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.run.environment import describe_devices

from .ray_cluster import import_ray
from .ray_engine import run_members_with_ray
from .setup import Engine
from .sweep import run_members


def run_with(config: EngineConfig) -> Engine:
    """The function that trains and measures members as `config` asks.

    Call it before anything uses JAX: with Ray, this process keeps off the accelerators.

    Raises:
      InputError: if there is an address and no Ray, or Ray is not installed.
    """
    if config.engine == "local":
        if config.address is not None:
            raise InputError(
                f"address {config.address} is that of a Ray cluster: give --engine ray too."
            )
        return run_members
    import_ray()
    # Merely started, JAX takes most of a GPU's memory, which tasks on this machine need.
    jax.config.update("jax_platforms", "cpu")
    return functools.partial(run_members_with_ray, address=config.address)


def describe_engine(config: EngineConfig) -> str:
    """What members are trained on, in a few words."""
    return describe_devices() if config.engine == "local" else "a Ray cluster"
