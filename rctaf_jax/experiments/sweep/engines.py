"""Where the members of a sweep are trained: which function does it."""

import functools

from rctaf_jax.config import EngineConfig
from rctaf_jax.experiments.cluster.ray_cluster import is_wanted
from rctaf_jax.experiments.run.environment import describe_devices

from .ray_engine import run_members_with_ray
from .setup import Engine
from .sweep import run_members


def run_with(config: EngineConfig) -> Engine:
    """The function that trains and measures members as `config` asks.

    Call it before anything uses JAX: with Ray, this process keeps off the accelerators.

    Raises:
      InputError: if there is an address and no Ray, or Ray is not installed.
    """
    if not is_wanted(config):
        return run_members
    return functools.partial(run_members_with_ray, address=config.address)


def describe_engine(config: EngineConfig) -> str:
    """What members are trained on, in a few words."""
    return describe_devices() if config.engine == "local" else "a Ray cluster"
