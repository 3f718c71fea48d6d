"""`rctaf train`: each thing once, a line an epoch."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rctaf_jax.activations import named as activations
from rctaf_jax.cli import main
from rctaf_jax.data import dataset, named
from rctaf_jax.experiments.results.training_log import read_log
from rctaf_jax.experiments.run import folder, train
from rctaf_jax.experiments.show.epochs import epoch_header

WORDS = "train --model mlp-1x4 --num-train 32 --num-test 20 --batch-size 16 --epochs 1"
WORDS += " --attack-steps 1 --step-size 0.1 --pgd-steps 2 --activation rct-af:beta=1,curvature=3"


def test_each_thing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The activation parsed, the data loaded and hashed, the configuration resolved, a trainer."""
    calls: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        true = getattr(module, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return true(*arguments, **options)

        monkeypatch.setattr(module, name, counted)

    count(activations, "_settings")
    count(named, "load")
    count(dataset, "content_hash")
    count(folder, "resolve")
    count(train, "make_trainer")
    assert main([*WORDS.split(), "--output", str(tmp_path / "run")]) == 0
    once = ("_settings", "load", "content_hash", "resolve", "make_trainer")
    assert calls == dict.fromkeys(once, 1)


def test_a_line_an_epoch_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [*WORDS.split(), "--output", str(tmp_path / "run"), "--epochs", "3"]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    first = said.index(epoch_header(is_validated=False)) + 1
    assert [line.split()[0] for line in said[first : first + 3]] == ["1/3", "2/3", "3/3"]
    assert all(len(line) <= 80 for line in said[first : first + 3])
    lines = read_log(tmp_path / "run" / "metrics.jsonl")
    last = [line for line in lines if line.step > 4]
    mean = sum(line.loss for line in last) / len(last)
    assert float(said[first + 2].split()[1]) == pytest.approx(mean, rel=1e-3)
    assert main(words) == 0
    assert (
        epoch_header(is_validated=False) not in capsys.readouterr().out
    )  # nothing is left to train
