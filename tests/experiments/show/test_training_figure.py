"""The picture of training."""

from rctaf_jax.experiments.show.training_figure import ValidatedEpoch, training_figure


def test_it_shows_what_it_is_given():
    validated = [ValidatedEpoch(2, 0.5, 0.25), ValidatedEpoch(4, 0.75, 0.125)]
    losses = [(1, 2.0), (2, 1.5), (3, 1.25), (4, 1.0)]
    loss, accuracy = training_figure(losses, validated, best_epoch=2, attack="PGD-10").axes
    assert loss.lines[0].get_xydata().tolist() == [list(pair) for pair in losses]
    clean, robust, best = accuracy.lines
    assert clean.get_xydata().tolist() == [[2, 50], [4, 75]]
    assert robust.get_xydata().tolist() == [[2, 25], [4, 12.5]]
    assert robust.get_label() == "robust (PGD-10)"
    assert [*best.get_xdata()] == [2, 2]


def test_a_run_of_one_epoch_has_one_too():
    figure = training_figure([(1, 2.0)], [ValidatedEpoch(1, 0.5, 0.0)], best_epoch=1, attack="x")
    assert len(figure.axes) == 2
