"""`rctaf hessian` on a trained ResNet: three estimators that share no noise, array by array.

Exact entries of a sample of parameters, Hutchinson's probes and XDiag's blocks, against each other
and against all exact entries. A comparison fails where the estimates are further apart than their
errors allow at a level of 1% over all comparisons together (Bonferroni).
"""

import itertools
import math
from collections.abc import Iterator

import jax
import pytest
from rich.console import Console
from scipy.special import ndtri

from rctaf_jax.cli import main
from rctaf_jax.config import DiagonalConfig, NetworkConfig
from rctaf_jax.experiments.run.hessian import hessian_of
from rctaf_jax.experiments.run.subject import open_subject

METHODS = {
    "coordinates": {"num_probes": 192},
    "hutchinson": {"num_probes": 384},
    "xdiag": {"num_probes": 192, "block_size": 16},
}
NUM_ARRAYS = 20
NUM_PARAMETERS = 400

Row = dict[str, float]


@pytest.fixture(scope="module")
def one_device() -> Iterator[None]:
    """Several take longer, and are tests/hessian's question."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
        yield


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, one_device: None) -> dict[str, list[Row]]:
    """For each method: the whole network, then its arrays."""
    folder = tmp_path_factory.mktemp("resnet")
    words = ["train", "--model", "resnet-mini", "--width", "0.125", "--method", "standard"]
    words += ["--epochs", "8", "--activation", "rct-af:beta=1,curvature=7", "--pgd-steps", "1"]
    assert main([*words, "--output", str(folder / "run")]) == 0

    def find(method: str, settings: dict[str, int]) -> list[Row]:
        config = DiagonalConfig(method=method, num_examples=32, batch_size=32, **settings)
        subject = open_subject(str(folder / "run"), NetworkConfig())
        result = hessian_of(subject, config, folder / method, "rctaf hessian", Console(quiet=True))
        assert result["num_parameters"] == NUM_PARAMETERS
        return [result, *result["layers"]]

    return {name: find(name, settings) for name, settings in {**METHODS, "exact": {}}.items()}


PAIRS = list(itertools.combinations([*METHODS, "exact"], 2))
LIMIT = -float(ndtri(0.01 / 2 / (len(PAIRS) * (NUM_ARRAYS + 1))))


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_ways_agree_array_by_array(rows: dict[str, list[Row]], one: str, other: str) -> None:
    assert len(rows[one]) == len(rows[other]) == NUM_ARRAYS + 1
    for a, b in zip(rows[one], rows[other], strict=True):
        assert a.get("name") == b.get("name")
        error = math.hypot(a["mean_square_standard_error"], b["mean_square_standard_error"])
        distance = abs(a["mean_square"] - b["mean_square"])
        assert distance <= LIMIT * error + 1e-5 * abs(b["mean_square"]), (a, b)


@pytest.mark.parametrize("method", METHODS)
def test_the_errors_are_small_enough_to_tell(rows: dict[str, list[Row]], method: str) -> None:
    network = rows[method][0]
    assert 0 < network["mean_square_standard_error"] < 0.2 * network["mean_square"]
