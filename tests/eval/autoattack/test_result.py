"""A result by class, with intervals, and read back from its folder."""

import json

import jax
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval import AutoAttackResult, autoattack, wilson_interval

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(12, 4)).astype(np.float32)
IMAGES = RNG.uniform(0.3, 0.7, (30, 3, 4, 1)).astype(np.float32)
LABELS = np.argmax((IMAGES - 0.5).reshape(30, 12) @ WEIGHTS, axis=1)
LABELS[:3] = (LABELS[:3] + 1) % 4  # misclassified when clean


def linear(x):
    return (x - 0.5).reshape(len(x), -1) @ WEIGHTS


@pytest.fixture(scope="module")
def result():
    return autoattack(
        linear, IMAGES, LABELS, jax.random.key(0), epsilon=0.02, attacks=["apgd-ce", "apgd-t"]
    )


def test_what_the_network_says_of_the_images(result):
    assert 3 < result.robust.sum() < 25
    np.testing.assert_array_equal(result.labels, LABELS)
    expected = np.argmax(linear(result.adversarial), axis=1)
    np.testing.assert_array_equal(result.adversarial_labels, expected)
    np.testing.assert_array_equal(result.adversarial_labels == LABELS, result.robust)
    assert result.robust_interval == wilson_interval(int(result.robust.sum()), 30)
    assert result.clean_interval == wilson_interval(27, 30)


def test_classes_add_up(result):
    rows = result.by_class()
    assert [row.label for row in rows] == sorted(set(LABELS.tolist()))
    for row in rows:
        mine = row.label == LABELS
        assert row.num_images == mine.sum()
        assert row.num_robust == (result.robust & mine).sum()
        assert row.num_correct == (result.correct & mine).sum()
    assert sum(row.num_images for row in rows) == 30


def test_logits_that_are_not_finite_have_no_label():
    def broken(x):
        return linear(x) * np.nan

    with pytest.warns(UserWarning, match="not finite"):
        result = autoattack(
            broken, IMAGES, LABELS, jax.random.key(0), epsilon=0.02, attacks="apgd-ce"
        )
    assert (result.adversarial_labels == -1).all()


def test_it_is_read_back(result, tmp_path):
    folder = result.save(tmp_path / "new" / "folder")
    again = AutoAttackResult.load(folder)
    for name, value in result._asdict().items():
        if name == "attacks":
            for one, other in zip(value, again.attacks, strict=True):
                for field, of_one in one._asdict().items():
                    np.testing.assert_array_equal(getattr(other, field), of_one)
        else:
            np.testing.assert_array_equal(getattr(again, name), value)
    assert again.summary() == result.summary()


def test_files_that_are_no_result(result, tmp_path):
    with pytest.raises(InputError, match=r"result\.json"):
        AutoAttackResult.load(tmp_path)
    folder = result.save(tmp_path)
    report = json.loads((folder / "result.json").read_text())
    for change, message in (
        ({"attacks": [{**report["attacks"][0], "accuracy": 1.5}]}, "accuracy"),
        ({"warnings": 3}, "warnings"),
        ({"attacks": [*report["attacks"], report["attacks"][0]]}, r"result\.npz"),
    ):
        (folder / "result.json").write_text(json.dumps(report | change))
        with pytest.raises(InputError, match=message):
            AutoAttackResult.load(folder)
    (folder / "result.json").write_text(json.dumps(report))
    with np.load(folder / "result.npz") as arrays:
        arrays = dict(arrays)
    for change in (
        {"robust": arrays["robust"][:-1]},
        {"adversarial": arrays["adversarial"][0]},
        {"correct": arrays["correct"].astype(float)},
        {"labels": arrays["labels"][:, None]},
        {name: value[:0] for name, value in arrays.items()},
    ):
        np.savez(folder / "result.npz", **{**arrays, **change})
        with pytest.raises(InputError, match=r"result\.npz"):
            AutoAttackResult.load(folder)
    (folder / "result.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"result\.npz"):
        AutoAttackResult.load(folder)
    assert (folder / "result.npz").exists()
