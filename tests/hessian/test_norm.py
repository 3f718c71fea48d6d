import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import literal_norm_from_diagonal, rms_from_diagonal


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30, 0.0])
def test_values_by_hand_at_any_scale(scale: float) -> None:
    """sqrt((9 + 16 + 144) / 4) = 6.5, and 6.5 / sqrt(4)."""
    diagonal = {"w": scale * jnp.array([[3.0], [-4.0]]), "b": scale * jnp.array([12.0, 0.0])}
    assert rms_from_diagonal(diagonal) == pytest.approx(6.5 * scale, rel=1e-6)
    assert literal_norm_from_diagonal(diagonal) == pytest.approx(3.25 * scale, rel=1e-6)


def test_definitions() -> None:
    diagonal = np.random.default_rng(0).normal(size=50).astype(np.float32)
    literal = np.linalg.norm(diagonal / 50)
    assert literal_norm_from_diagonal(diagonal) == pytest.approx(literal, rel=1e-6)
    assert rms_from_diagonal(diagonal) == pytest.approx(literal * math.sqrt(50), rel=1e-6)
    assert jax.jit(rms_from_diagonal)(diagonal) == pytest.approx(literal * math.sqrt(50), rel=1e-6)


def test_network_copied_twice_keeps_its_rms_only() -> None:
    one = jnp.array([1.0, -2.0, 3.0])
    both = {"first": one, "second": one}
    assert rms_from_diagonal(both) == pytest.approx(float(rms_from_diagonal(one)), rel=1e-6)
    shrunk = float(literal_norm_from_diagonal(one)) / math.sqrt(2)
    assert literal_norm_from_diagonal(both) == pytest.approx(shrunk, rel=1e-6)


def test_no_entries() -> None:
    with pytest.raises(InputError, match="without entries"):
        rms_from_diagonal({})
