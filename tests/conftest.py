"""Settings of the test process, and reference values.

The environment is set before anything imports JAX or Ray: four virtual CPU devices, so that tests
of several devices run in this process, a compilation cache that outlives it, and a token for Ray's
clusters, which Ray would write to the home folder.
"""

import contextlib
import gc
import os
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

# Most of a run that starts without a cache is compiling, and most of that generating code: JAX's
# own tests do without its optimisations, too. What XLA makes of a program before that stays, so
# roundings differ but no meaning; tests of roundings ask for `optimised`. All programs are those of
# users with JAX_DISABLE_MOST_OPTIMIZATIONS=0 XLA_FLAGS=--xla_cpu_use_fusion_emitters=true.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
_FLAGS = ["--xla_force_host_platform_device_count=4"]
if tuple(map(int, version("jaxlib").split(".")[:3])) < (0, 11, 1):  # later ones end at it
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")
    _FLAGS.append("--xla_cpu_parallel_codegen_split_count=1")
_given = os.environ.get("XLA_FLAGS", "")
_added = [flag for flag in _FLAGS if flag.split("=")[0] not in _given]
os.environ["XLA_FLAGS"] = " ".join([_given, *_added]).strip()
_CACHE_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE_HOME / "rctaf-jax" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.02")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", uuid.uuid4().hex)

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"

Reference = Callable[[str], dict[str, np.ndarray]]


@pytest.fixture(scope="module", autouse=True)
def _old_objects_are_left_alone() -> None:
    """What earlier modules compiled is no garbage: each collection would walk through all of it."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _names_of_own_parts_are_forgotten() -> Iterator[None]:
    """What a module registers by name is not there for the next, whichever that is."""
    from rctaf_jax.activations.baselines import BASELINES
    from rctaf_jax.data import named
    from rctaf_jax.models import table
    from rctaf_jax.training.methods.registry import METHODS

    registries: tuple[dict, ...] = (BASELINES, METHODS, named._OWN, table._OWN)
    before = [dict(registry) for registry in registries]
    yield
    for registry, known in zip(registries, before, strict=True):
        registry.clear()
        registry.update(known)


@pytest.fixture(scope="session")
def optimised() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """`with optimised():` compiles as for users, where a rounding is the question."""

    @contextlib.contextmanager
    def programs() -> Iterator[None]:
        import jax

        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", False)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)

    return programs


@pytest.fixture(scope="session")
def reference() -> Reference:
    """Loads reference values by name: `reference("losses")["targets"]`; skips where absent."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = FIXTURES / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"no reference values {path.name} in {FIXTURES}")
        with np.load(path) as arrays:
            return dict(arrays)

    return load
