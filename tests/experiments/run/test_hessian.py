"""`rctaf hessian`: every method against the exact one, and what an interruption leaves."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from rctaf_jax.cli import main
from rctaf_jax.config import DiagonalConfig, NetworkConfig
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.run import hessian as module
from rctaf_jax.experiments.run.hessian import hessian_of
from rctaf_jax.experiments.run.hessian_methods import BLOCK_SIZE
from rctaf_jax.experiments.run.subject import open_subject
from rctaf_jax.experiments.show.hessian_figure import hessian_figure

CONSOLE = Console(quiet=True)
NUM_PARAMETERS = 64 * 8 + 8 + 8 * 10 + 10
FEW = {"num_examples": 50, "batch_size": 16}


def train(folder, seed=0):
    words = ["train", "--model", "mlp-1x8", "--epochs", "3", "--batch-size", "16"]
    words += ["--num-train", "64", "--num-test", "20", "--method", "standard"]
    words += ["--pgd-steps", "2", "--seed", str(seed), "--output", str(folder)]
    assert main(words) == 0
    return folder


@pytest.fixture(autouse=True)
def _draw_where_asked(request, monkeypatch):
    """A figure takes most of a second; one test looks at its own."""
    if request.function is not test_estimates_agree_with_exact:
        monkeypatch.setattr(module, "missing", lambda packages: packages)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("hessian") / "run")


def find(run, folder, **settings):
    config = DiagonalConfig(**{**FEW, **settings})
    return hessian_of(
        open_subject(str(run), NetworkConfig()), config, folder, "rctaf hessian", CONSOLE
    )


def arrays(folder):
    with np.load(folder / "diagonal.npz") as found:
        return dict(found)


@pytest.fixture(scope="module")
def exact(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exact")
    return find(run, folder, method="exact"), arrays(folder)


def test_exact_counts_every_parameter(exact):
    result, found = exact
    assert result["num_products"] == result["num_parameters"] == NUM_PARAMETERS
    assert (result["num_examples"], result["relative_error"]) == (50, 0)
    values = np.concatenate([v.ravel() for k, v in found.items() if ":" not in k])
    assert values.size == NUM_PARAMETERS
    np.testing.assert_allclose(result["mean_square"], np.mean(values**2), rtol=1e-6)
    low, high = result["mean_square_interval"]
    assert low == high == result["mean_square"]


def test_auto_takes_neurons_and_equals_exact(run, exact, tmp_path):
    result = find(run, tmp_path, method="auto")
    assert (result["method"], result["num_products"]) == ("neuron", 8 + 10)
    for name, values in arrays(tmp_path).items():
        scale = np.abs(exact[1][name]).max()
        np.testing.assert_allclose(values, exact[1][name], atol=1e-5 * scale + 1e-12)


@pytest.mark.parametrize(
    ("method", "settings", "num_products"),
    [
        ("hutchinson", {"num_probes": 200}, 200),
        ("xdiag", {"num_probes": 60, "block_size": 10}, 120),
        ("coordinates", {"num_probes": 200}, 200),
    ],
)
def test_estimates_agree_with_exact(run, exact, tmp_path, method, settings, num_products):
    result = find(run, tmp_path, method=method, **settings)
    assert (result["method"], result["num_products"]) == (method, num_products)
    error = abs(result["mean_square"] - exact[0]["mean_square"])
    assert error < 4 * result["mean_square_standard_error"]
    assert len(result["layers"]) == 4
    assert (tmp_path / "hessian.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "diagonal.npz").exists() == (method != "coordinates")


def test_coordinates_of_all_parameters_are_exact(run, exact, tmp_path):
    result = find(run, tmp_path, method="coordinates", num_probes=10**6)
    assert result["num_products"] == NUM_PARAMETERS
    np.testing.assert_allclose(result["mean_square"], exact[0]["mean_square"], rtol=1e-5)
    assert result["relative_error"] < 1e-3


def test_more_probes_go_on_from_those_that_are_done(run, tmp_path):
    find(run, tmp_path / "steps", method="hutchinson", num_probes=20)
    in_steps = find(run, tmp_path / "steps", method="hutchinson", num_probes=50)
    at_once = find(run, tmp_path / "once", method="hutchinson", num_probes=50)
    assert in_steps["num_probes"] == at_once["num_probes"] == 50
    assert in_steps["mean_square"] == at_once["mean_square"]
    fewer = find(run, tmp_path / "steps", method="hutchinson", num_probes=10)
    assert fewer["num_probes"] == 50


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("hutchinson", {"num_probes": 48}),
        ("xdiag", {"num_probes": 24, "block_size": 6}),
        ("coordinates", {"num_probes": 40}),
        ("exact", {}),
        ("neuron", {}),
    ],
)
def test_interrupted_and_resumed_is_the_same(run, tmp_path, monkeypatch, method, settings):
    whole = find(run, tmp_path / "whole", method=method, **settings)
    calls = []

    def make_way(*arguments):
        way = original(*arguments)

        def advance(state, numbers):
            calls.append(numbers)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return way.advance(state, numbers)

        return way._replace(advance=advance)

    original = module.make_way
    monkeypatch.setattr(module, "make_way", make_way)
    with pytest.raises(KeyboardInterrupt):
        find(run, tmp_path / "parts", method=method, **settings)
    resumed = find(run, tmp_path / "parts", method=method, **settings)
    done = [number for numbers in calls[:1] + calls[2:] for number in numbers]
    assert done == sorted(set(done))
    assert resumed["mean_square"] == whole["mean_square"]
    assert resumed["layers"] == whole["layers"]


def test_until_stops_early_and_stays_stopped(run, tmp_path):
    settings = {"method": "hutchinson", "num_probes": 10_000, "until": 0.5}
    result = find(run, tmp_path, **settings)
    assert result["num_probes"] < 1000
    assert result["relative_error"] <= 0.5
    assert find(run, tmp_path, **settings)["num_probes"] == result["num_probes"]


def test_damaged_sums_are_kept_aside(run, tmp_path):
    settings = {"method": "hutchinson", "num_probes": 16}
    before = find(run, tmp_path, **settings)
    whole = (tmp_path / "sums.npz").read_bytes()
    (tmp_path / "sums.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"damaged .* kept aside as sums.npz.damaged; run the sam"):
        find(run, tmp_path, **settings)
    assert (tmp_path / "sums.npz.damaged").exists()
    assert find(run, tmp_path, **settings)["mean_square"] == before["mean_square"]


@pytest.mark.parametrize(
    "changes",
    [
        {"num_done": -1},
        {"num_done": 0.5},
        {"num_done": [4, 4]},
        {"leaf0": np.zeros(3)},
        {"leaf0": np.array(["x"])},
    ],
)
def test_sums_of_something_else_are_kept_aside(run, tmp_path, changes):
    find(run, tmp_path, method="hutchinson", num_probes=4)
    with np.load(tmp_path / "sums.npz") as arrays:
        kept = dict(arrays)
    np.savez(tmp_path / "sums.npz", **{**kept, **changes})
    with pytest.raises(InputError, match=r"sums are not those .* kept aside as sums.npz.damaged"):
        find(run, tmp_path, method="hutchinson", num_probes=4)
    assert not (tmp_path / "sums.npz").exists()


def test_sums_without_an_array_are_kept_aside(run, tmp_path):
    find(run, tmp_path, method="hutchinson", num_probes=4)
    np.savez(tmp_path / "sums.npz", num_done=4)
    with pytest.raises(InputError, match=r"no array leaf0\) and was kept aside as sums"):
        find(run, tmp_path, method="hutchinson", num_probes=4)


def test_other_settings_do_not_mix(run, tmp_path):
    find(run, tmp_path, method="hutchinson", num_probes=4)
    with pytest.raises(InputError, match="seed = 0, this command 1"):
        find(run, tmp_path, method="hutchinson", num_probes=4, seed=1)


def test_another_network_does_not_mix(run, tmp_path):
    find(run, tmp_path / "out", method="hutchinson", num_probes=4)
    with pytest.raises(InputError, match=r"says weights = [0-9a-f]+, this command [0-9a-f]+: cho"):
        find(train(tmp_path / "other", seed=1), tmp_path / "out", method="hutchinson", num_probes=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_probes": 1}, "num-probes must be 2 or more, since one probe has no standard error"),
        ({"until": 0.0}, "until must be a positive number"),
        ({"method": "exact", "until": 0.1}, "until is for estimates, and exact is exact"),
        (
            {"method": "xdiag", "num_probes": 32},
            f"3 blocks of {BLOCK_SIZE} probes",
        ),
        ({"method": "coordinates", "num_probes": 4}, "two parameters of each array, 8 in all"),
        ({"batch_size": 0}, "batch-size must be a positive number"),
    ],
)
def test_bad_input(run, tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        find(run, tmp_path, **settings)
    assert not list(tmp_path.iterdir())


def test_a_hessian_that_is_not_finite_is_said(run, tmp_path, monkeypatch):
    def make_way(*arguments):
        way = original(*arguments)

        def estimate(state):
            found = way.estimate(state)
            return found._replace(mean_square=found.mean_square._replace(q=float("inf")))

        return way._replace(estimate=estimate)

    original = module.make_way
    monkeypatch.setattr(module, "make_way", make_way)
    with pytest.raises(InputError, match=r"the Hessian of .* is not finite: .* activation is "):
        find(run, tmp_path, method="hutchinson", num_probes=4)
    assert not (tmp_path / "hessian.json").exists()


def test_too_little_memory_is_said_beforehand(run, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"vectors of 610 parameters.*use the method coordinates"):
        find(run, tmp_path, method="hutchinson")


@pytest.mark.parametrize("method", ["exact", "coordinates"])
def test_a_batch_too_large_is_said_beforehand(run, tmp_path, monkeypatch, method):
    monkeypatch.setattr(module, "free_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"a batch of 16 images takes .* give a smaller batch-siz"):
        find(run, tmp_path, method=method)


def test_neurons_are_refused_to_convolutions(run, tmp_path, monkeypatch):
    words = ["train", "--model", "resnet-mini", "--width", "1/4", "--epochs", "1"]
    words += ["--num-train", "32", "--num-test", "20", "--batch-size", "16"]
    words += ["--method", "standard", "--pgd-steps", "1", "--output", str(tmp_path / "run")]
    assert main(words) == 0
    with pytest.raises(InputError, match="hidden1"):
        find(tmp_path / "run", tmp_path / "out", method="neuron")


def test_the_figure_shows_what_is_not_resolved(exact):
    result, _ = exact
    layers = [dict(layer) for layer in result["layers"]]
    layers[0] |= {"rms": None, "mean_square": -1.0, "mean_square_interval": [-3.0, 1.0]}
    layers[1] |= {"mean_square_interval": [-1e-9, 2 * layers[1]["mean_square"]]}
    (norms,) = hessian_figure({**result, "layers": layers}, None).axes
    assert "not resolved" in norms.get_xlabel()
    assert norms.lines[0].get_marker() == "<"
    assert norms.get_yticklabels()[0].get_text() == layers[0]["name"]


def test_the_json_is_the_result(run, tmp_path):
    result = find(run, tmp_path, method="hutchinson", num_probes=4)
    read = json.loads((tmp_path / "hessian.json").read_text())
    assert read == {name: value for name, value in result.items() if name != "folder"}
    config = DiagonalConfig(**FEW, method="hutchinson", num_probes=4)
    assert read["config"] == dataclasses.asdict(config)
