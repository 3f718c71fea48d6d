import numpy as np
import pytest

from rctaf_jax.data import Split
from rctaf_jax.data.splits import balanced


@pytest.mark.parametrize("seed", range(5))
def test_balanced_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), rng.integers(6, 30, 4)))
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    train, test, phrase = balanced(Split(images, labels), 5)
    chosen: dict[str, list[int]] = {"train": [], "test": []}
    seen = [0] * 4
    for index in np.random.RandomState(0).permutation(len(labels)):
        chosen["train" if seen[labels[index]] < 5 else "test"].append(int(index))
        seen[labels[index]] += 1
    assert train.images.ravel().tolist() == chosen["train"]
    assert test.images.ravel().tolist() == chosen["test"]
    for split in (train, test):
        assert np.array_equal(split.labels, labels[split.images.ravel()])
    assert phrase.endswith("the first 5 of each class being the training split")
