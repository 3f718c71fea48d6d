"""The appendix's validation on networks small enough to measure twice."""

import io
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from rich.console import Console

from rctaf_jax.activations import parse_activation
from rctaf_jax.experiments.appendix.figure import appendix_figure
from rctaf_jax.experiments.appendix.measure import AppendixConfig, Network, draw_network
from rctaf_jax.experiments.appendix.tables import error_table, growth_table, layer_table, select
from rctaf_jax.experiments.appendix.validate import validate_appendix
from rctaf_jax.hessian import appendix_diagonal, full_matrix_recursion, squared_error

CONFIG = AppendixConfig(
    betas=(1,),
    alphas=(1.0, 5.0),
    depths=(1, 3),
    seeds=2,
    width=4,
    inputs=3,
    examples=6,
    steps=(0, 500),
)


class Validation(NamedTuple):
    folder: Path
    rows: list[dict[str, Any]]
    text: str


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    folder = tmp_path_factory.mktemp("validation") / "appendix"
    console = Console(file=io.StringIO(), width=100)
    rows = validate_appendix(folder, console, "rctaf validate-appendix", config=CONFIG)
    assert isinstance(console.file, io.StringIO)
    return Validation(folder, rows, console.file.getvalue())


def test_the_record_says_what_was_measured_and_how(validation: Validation) -> None:
    record = json.loads((validation.folder / "appendix.json").read_text())
    assert record["rows"] == validation.rows
    assert record["config"]["alphas"] == [1, 5]
    assert record["config"]["learning_rate"] == CONFIG.learning_rate
    assert record["environment"]["command"] == "rctaf validate-appendix"
    assert "jax" in record["environment"]["versions"]
    assert record["seconds"] > 0
    places = [(row["hidden_layers"], row["steps"], row["alpha"]) for row in record["rows"]]
    assert places == list(itertools.product(CONFIG.depths, CONFIG.steps, CONFIG.alphas))
    assert [row["max_curvature"] for row in record["rows"]] == [0.5, 2.5] * 4


def test_errors_are_where_the_theory_has_them(validation: Validation) -> None:
    assert max(row["full_error"] for row in validation.rows) < 1e-13
    assert max(row["paper_error"] for row in select(validation.rows, hidden_layers=1)) < 1e-13
    for alpha in CONFIG.alphas:
        initial, trained = select(validation.rows, hidden_layers=3, alpha=alpha)
        assert initial["paper_error"] > 1e-3
        assert initial["paper_layer_errors"][0] > 1e-2
        assert max(initial["paper_layer_errors"][1:]) < 1e-13
        assert initial["second_derivative_errors"][0] > 1e-2
        assert trained["residual"] < 1e-3 * initial["residual"]
        assert trained["paper_error"] < 1e-2 * initial["paper_error"]
        assert trained["second_derivative_errors"][0] > 1e-2
        assert trained["curvature_share"] < 1e-2 * initial["curvature_share"]


def test_medians_are_those_of_the_networks(validation: Validation) -> None:
    (row,) = select(validation.rows, hidden_layers=3, alpha=5, steps=0)

    @jax.jit
    def parts(network: Network) -> Any:
        sigma = parse_activation("rct-af:beta=1,alpha=5")
        return appendix_diagonal(
            full_matrix_recursion, squared_error, network[0], sigma, *network[1:]
        )

    sizes, shares, of_first = [], [], []
    with jax.enable_x64(True):
        for seed in range(2):
            pair = [
                [np.concatenate([np.ravel(leaf) for leaf in layer]) for layer in part]
                for part in parts(draw_network(seed, 3, CONFIG))
            ]
            gauss_newton, curvature = map(np.concatenate, pair)
            whole = (gauss_newton, curvature, gauss_newton + curvature)
            sizes.append([np.sqrt(np.mean(part**2)) for part in whole])
            shares.append(_share(gauss_newton, curvature))
            of_first.append(_share(pair[0][0], pair[1][0]))
    names = ("gauss_newton_rms", "curvature_rms", "rms")
    np.testing.assert_allclose([row[name] for name in names], np.median(sizes, axis=0), rtol=1e-12)
    assert row["curvature_share"] == pytest.approx(np.median(shares), rel=1e-12)
    assert row["curvature_layer_shares"][0] == pytest.approx(np.median(of_first), rel=1e-12)
    assert row["curvature_layer_shares"][-1] == 0
    low, high = row["paper_error_range"]
    assert (low + high) / 2 == pytest.approx(row["paper_error"])


def _share(gauss_newton: np.ndarray, curvature: np.ndarray) -> float:
    one, other = (np.abs(part).sum() for part in (gauss_newton, curvature))
    return float(other / (one + other))


def test_float64_is_for_the_measurement_only(validation: Validation) -> None:
    assert not jax.config.read("jax_enable_x64")


def test_networks_are_drawn_as_described() -> None:
    layers, inputs, targets = draw_network(0, 2, AppendixConfig(width=400, examples=1000))
    assert [layer.weight.shape for layer in layers] == [(400, 8), (400, 400), (1, 400)]
    assert (inputs.shape, targets.shape) == ((1000, 8), (1000, 1))
    for values, deviation in (
        (layers[0].weight, (2 / 8) ** 0.5),
        (layers[1].weight, (2 / 400) ** 0.5),
        (layers[1].bias, 0.5),
        (inputs, 1.0),
        (targets, 1.0),
    ):
        error = 5 * deviation / np.sqrt(2 * np.size(values))
        assert np.std(values) == pytest.approx(deviation, abs=error)


def test_tables_are_printed_and_whole(validation: Validation) -> None:
    assert "…" not in validation.text
    for row in select(validation.rows, steps=0):
        assert f"{row['paper_error']:.1e}" in validation.text
    assert "Relative error of the diagonal" in validation.text
    assert f"appendix.svg in {validation.folder}" in " ".join(validation.text.split())
    assert error_table(validation.rows).row_count == 2
    assert layer_table(validation.rows).row_count == 2
    assert growth_table(validation.rows).row_count == 2


def test_the_figure_has_the_numbers(validation: Validation) -> None:
    assert (validation.folder / "appendix.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (validation.folder / "appendix.svg").read_text()
    errors, layers, shares, growth = appendix_figure(validation.rows).axes
    first = select(validation.rows, alpha=1, steps=0)
    np.testing.assert_allclose(errors.lines[0].get_ydata(), [row["paper_error"] for row in first])
    (deep,) = select(validation.rows, alpha=5, steps=0, hidden_layers=3)
    expected = 100 * np.array(deep["second_derivative_errors"])
    np.testing.assert_allclose(layers.lines[0].get_ydata(), expected)
    of_depth = select(validation.rows, hidden_layers=3, steps=0)
    expected = 100 * np.array([row["curvature_share"] for row in of_depth])
    np.testing.assert_allclose(shares.lines[0].get_ydata(), expected)
    np.testing.assert_allclose(
        growth.lines[1].get_ydata(), [row["gauss_newton_rms"] for row in of_depth]
    )
