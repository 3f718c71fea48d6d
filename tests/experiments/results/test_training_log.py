"""The log of training."""

import json

import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.training_log import TrainingLine, TrainingLog, epoch_means


def random_lines(rng, epoch_steps, num_epochs):
    """Each step's loss, and lines that cut the steps at random, and at the ends of epochs."""
    losses = rng.normal(size=epoch_steps * num_epochs)
    ends = {*range(epoch_steps, len(losses) + 1, epoch_steps)}
    ends |= {*rng.integers(1, len(losses), 5).tolist()}
    lines, start = [], 0
    for end in sorted(ends):
        mean = float(losses[start:end].mean())
        lines.append(TrainingLine(end, end / epoch_steps, mean, 0.5, 100.0))
        start = end
    return losses, lines


@pytest.mark.parametrize("seed", range(5))
def test_means_of_epochs_are_those_of_their_steps(seed, tmp_path):
    rng = np.random.default_rng(seed)
    losses, lines = random_lines(rng, 7, 4)
    means = epoch_means(lines, 0, 7, 10)
    np.testing.assert_allclose([mean.loss for mean in means], losses.reshape(4, 7).mean(1))
    assert [mean.epoch for mean in means] == [1, 2, 3, 4]
    np.testing.assert_allclose([mean.seconds for mean in means], 7 * 10 / 100)
    log = TrainingLog(tmp_path / "metrics.jsonl", 0)
    for line in lines:
        log.add(line, is_written=True)
        if line.step % 7 == 0:
            assert log.epoch(line.step // 7, 7, 10) == means[line.step // 7 - 1]


def test_a_log_that_goes_on_has_each_step_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [TrainingLine(step, step / 4, 1.0 / step, 0.5, 9.0) for step in (1, 3, 4, 6)]
    whole = TrainingLog(path, 0)
    for line in lines:
        whole.add(line, is_written=True)
    before = path.read_text()
    again = TrainingLog(path, 6)
    again.restart()
    assert (again.training, path.read_text()) == (lines, before)
    earlier = TrainingLog(path, 4)
    assert path.read_text() == before
    earlier.restart()
    assert earlier.training == lines[:3]
    assert path.read_text() == "".join(before.splitlines(keepends=True)[:3])
    earlier.add(lines[3], is_written=False)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3, 4]


@pytest.mark.parametrize("text", ["{", "[]", '{"step": 0}', '{"step": "x"}', "\x00", '"a"'])
def test_a_damaged_log_is_a_sentence(text, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{text}\n")
    with pytest.raises(InputError, match=r"line 1 of .*metrics.jsonl"):
        TrainingLog(path, 10)
