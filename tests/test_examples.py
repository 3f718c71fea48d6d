"""The examples in docstrings do what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

from rctaf_jax.activations.baselines import BASELINES

ROOT = Path(__file__).parents[1]
FOLDERS = ("rctaf_jax", "models", "training", "eval", "hessian")
EXAMPLES = sorted(
    path.relative_to(ROOT).with_suffix("")
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if ">>>" in path.read_text()
)


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_examples(path: Path) -> None:
    parts = path.parts if path.parts[0] == "rctaf_jax" else ("rctaf_jax", *path.parts)
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    before = dict(BASELINES)
    result = doctest.testmod(module)
    BASELINES.clear()  # of what an example has registered
    BASELINES.update(before)
    assert result.attempted
    assert not result.failed
