"""Settings of the test process, and reference values.

The environment is set before anything imports JAX or Ray: four virtual CPU devices, so that tests
of several devices run in this process, a compilation cache that outlives it, and a token for Ray's
clusters, which Ray would write to the home folder.
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

_FLAG = "--xla_force_host_platform_device_count=4"
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
_CACHE_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE_HOME / "rctaf-jax" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", uuid.uuid4().hex)

FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"

Reference = Callable[[str], dict[str, np.ndarray]]


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
