import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.eval.verdict import judge_logits, require_allowed
from rctaf_jax.threat_model import ThreatModel

CLEAN = np.full((3, 2, 2, 1), 0.5, np.float32)


@pytest.mark.parametrize("convert", [lambda f: f, jax.jit])
def test_judge(convert: object) -> None:
    inf, nan = jnp.inf, jnp.nan
    logits = jnp.array([[1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [nan, 1.0], [0.0, inf], [-inf, 0.0]])
    correct, nonfinite = convert(judge_logits)(logits, jnp.array([1, 1, 0, 1, 1, 1]))
    assert correct.tolist() == [True, False, True, False, False, False]
    assert nonfinite.tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_allowed_up_to_the_tolerance(norm: str) -> None:
    changed = CLEAN.copy()
    changed[1, 0, 0, 0] += 0.25
    require_allowed(changed, CLEAN, ThreatModel(norm, 0.25))
    require_allowed(changed, CLEAN, ThreatModel(norm, 0.25 - 5e-7))
    with pytest.raises(RuntimeError, match=f"moved image 1 by 0.25 in {norm}, more than"):
        require_allowed(changed, CLEAN, ThreatModel(norm, 0.25 - 2e-6))


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "not finite"), (1.01, "outside"), (-0.01, "outside")]
)
def test_impossible_pixels(value: float, message: str) -> None:
    changed = CLEAN.copy()
    changed[2, 1, 1, 0] = value
    with pytest.raises(RuntimeError, match=message):
        require_allowed(changed, CLEAN, ThreatModel("Linf", 10.0))
