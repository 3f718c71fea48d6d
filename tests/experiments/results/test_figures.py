"""What is drawn where: numbers in the figures are those of the results and of the formulas."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.figures import mechanism_figure, robustness_figure
from rctaf_jax.experiments.results.rows import Results, load_results
from rctaf_jax.experiments.show.activation_figure import activation_figure
from rctaf_jax.experiments.show.plotting import LOOKS, inline_panels, png, spread_labels, svg

Factory = Callable[..., Any]


@pytest.fixture
def results(make_folder: Factory, sweep_rows: list[dict[str, Any]]) -> Results:
    return load_results(make_folder(sweep_rows))


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def curves(axes: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Lines with more than two points; the dots of single members are none."""
    return [
        (np.asarray(line.get_xdata()), np.asarray(line.get_ydata()))
        for line in axes.lines
        if len(np.asarray(line.get_xdata())) > 2 and line.get_marker() != "."
    ]


def test_robustness_against_alpha_and_curvature(results: Results) -> None:
    by_alpha, by_curvature = robustness_figure(results).axes
    for factor, (x, _) in zip((4, 2, 1), curves(by_alpha), strict=True):
        np.testing.assert_allclose(x, np.array([1, 4, 7, 10, 20, 50]) * factor)
    (_, y), *_ = curves(by_curvature)
    counts = [row.robust_correct for row in results.rows if row.beta == 0]
    means = np.reshape(np.array(counts, float), (6, 2)).mean(axis=1)
    np.testing.assert_allclose(y, 100 * means / 360)
    assert {"β = 0", "β = 1", "β = 2", "ReLU"} <= set(texts(by_alpha))
    assert "paper: 4 to 10" in texts(by_curvature)
    assert "paper: 4 to 10" not in texts(by_alpha)
    assert by_alpha.get_xscale() == by_curvature.get_xscale() == "log"
    assert by_curvature.get_ylabel() == "robust accuracy (%)"


def test_betas_differ_in_color_marker_and_dashes(results: Results) -> None:
    for looks in zip(*LOOKS, strict=True):
        assert len(set(looks)) == len(LOOKS)
    axes = robustness_figure(results).axes[1]
    lines = [line for line in axes.lines if line.get_marker() in ("o", "s", "^")]
    assert [line.get_color() for line in lines] == [look.color for look in LOOKS[:3]]


def test_the_hessian_axis_is_logarithmic_only_over_a_decade(
    make_folder: Factory, make_member: Factory
) -> None:
    for widest, scale in ((0.05, "linear"), (0.5, "log")):
        rows = [make_member(1, c, 0, rms=r) for c, r in ((1, 0.01), (7, 0.02), (50, widest))]
        folder = make_folder(rows)
        hessian = mechanism_figure(load_results(folder)).axes[1]
        assert hessian.get_yscale() == scale
        folder.rename(folder.with_name(f"done-{scale}"))


def test_one_member_is_a_visible_point(make_folder: Factory, make_member: Factory) -> None:
    results = load_results(make_folder([make_member(1, 7, 0)], betas=[1], baselines=[]))
    for figure in (robustness_figure(results), mechanism_figure(results)):
        for axes in figure.axes:
            assert any(line.get_marker() == "s" for line in axes.lines)
            assert len(axes.get_xticks()) > 1
    low, high = robustness_figure(results).axes[1].get_xlim()
    assert low < 4
    assert high > 10


def test_baselines_stand_at_their_curvature_or_are_levels(
    make_folder: Factory, make_member: Factory
) -> None:
    gelu = make_member(None, 0.798, 0, activation="gelu", family="gelu", id="gelu-seed0")
    gelu["max_curvature"] = parse_activation("gelu").max_curvature
    rows = [make_member(1, 7, 0), make_member(None, math.inf, 0), gelu]
    by_alpha, by_curvature = robustness_figure(load_results(make_folder(rows))).axes
    assert [t for t in texts(by_alpha) if t in ("GELU", "ReLU")] == ["GELU", "ReLU"]
    places = [np.asarray(line.get_xdata()).tolist() for line in by_curvature.lines]
    assert [gelu["max_curvature"]] in places


def test_only_diverged_members_draw_without_numbers(
    make_folder: Factory, make_diverged: Factory
) -> None:
    results = load_results(make_folder([make_diverged(1, 7, 0, "NaN")]))
    assert texts(robustness_figure(results).axes[0]) == ["no measurement"]
    assert png(mechanism_figure(results)).startswith(b"\x89PNG")


def test_a_diverged_member_is_a_cross(
    make_folder: Factory, make_member: Factory, make_diverged: Factory
) -> None:
    results = load_results(make_folder([make_member(1, 7, 0), make_diverged(1, 50, 0, "NaN")]))
    axes = robustness_figure(results).axes[1]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [np.asarray(cross.get_xdata()).tolist() for cross in crosses] == [[50.0]]


def test_files_are_reproducible(results: Results) -> None:
    first, second = (svg(robustness_figure(results)) for _ in range(2))
    assert first == second
    panels = inline_panels(mechanism_figure(results), name="m", description='a "quoted" <name>')
    assert len(panels) == 2
    for index, text in enumerate(panels):
        assert text.startswith("<svg viewBox=")
        assert 'aria-label="a &quot;quoted&quot; &lt;name&gt;: ' in text
        assert f'id="m-{index}-' in text
        assert "http" not in text


def test_a_panel_on_a_page_is_that_of_the_file(results: Results) -> None:
    """Cut out of the whole, as high as it, and what was hidden meanwhile is there again."""
    figure = robustness_figure(results)
    left, right = inline_panels(figure, name="r", description="Robust accuracy")
    assert all(axes.get_visible() for axes in figure.axes)
    assert left.count('id="r-0-axes_') == right.count('id="r-1-axes_') == 1
    assert "paper" not in left  # letters are paths
    boxes = [
        [float(x) for x in re.findall(r'viewBox="([^"]*)"', p)[0].split()] for p in (left, right)
    ]
    assert boxes[0][3] == boxes[1][3] == 72 * 4.0
    assert 0.8 * 72 * 10.4 < boxes[0][2] + boxes[1][2] < 1.02 * 72 * 10.4


def test_paper_figures() -> None:
    activations = [
        parse_activation(f"rct-af:beta={beta},alpha={alpha}")
        for beta in (0, 1, 2)
        for alpha in (1, 5, 10, 15, 20)
    ]
    figure = activation_figure(activations, 2)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "RCT-AF β = 0",
        "RCT-AF β = 1",
        "RCT-AF β = 2",
    ]
    for axes, factor, num_extrema in zip(figure.axes, (4, 2, 1), (1, 3, 5), strict=True):
        sharpest = [line for line in axes.lines if line.get_marker() == "o"][-1]
        assert len(np.asarray(sharpest.get_xdata())) == num_extrema
        assert np.max(np.asarray(sharpest.get_ydata())) == pytest.approx(20 / factor)
        graph = [line for line in axes.lines if line.get_marker() == "None"][-1]
        assert np.max(np.asarray(graph.get_ydata())) == pytest.approx(20 / factor, rel=1e-5)
    assert activation_figure(activations, 0).axes[0].get_xlim() == (-3.0, 3.0)


def test_baselines_share_a_panel_and_a_jump_is_no_line() -> None:
    figure = activation_figure([parse_activation(n) for n in ("relu", "gelu", "elu")], 2)
    (axes,) = figure.axes
    relu, gelu, elu = (np.asarray(line.get_ydata()) for line in axes.lines)
    assert np.isnan(elu).sum() == np.isnan(relu).sum() == 1
    assert not np.isnan(gelu).any()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["ReLU", "GELU", "ELU"]


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(InputError, match="got 0 activations"):
        activation_figure([], 0)
    with pytest.raises(InputError, match="derivative order -1"):
        activation_figure([parse_activation("relu")], -1)


def test_labels_keep_their_distance_and_their_middle() -> None:
    positions = [0.0, 1.0, 2.0, 40.0, 41.0]
    placed = spread_labels(positions, 10.0)
    assert np.all(np.diff(placed) >= 10.0 - 1e-9)
    assert sum(placed) == pytest.approx(sum(positions))
    assert spread_labels([], 10.0) == []
