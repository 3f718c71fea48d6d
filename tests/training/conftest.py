import dataclasses

import numpy as np
import pytest

from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset
from rctaf_jax.data.dataset import Split, checked


def make_dataset(num_train: int = 40, num_test: int = 12, seed: int = 0) -> Dataset:
    """Blobs of 8x8 pixels, one place a class, that a small network can learn."""
    rng = np.random.default_rng(seed)

    def split(size: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(size) % 4
        images = rng.integers(0, 120, (size, 8, 8, 1))
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 2)
            image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 120
        return images.astype(np.uint8), labels

    return checked(
        "blobs",
        Split(*split(num_train)),
        Split(*split(num_test)),
        class_names=("a", "b", "c", "d"),
        source="made for a test",
    )


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    return dataclasses.replace(
        TrainConfig(),
        width=0.25,
        epsilon=0.1,
        attack_steps=2,
        step_size=0.06,
        epochs=3,
        batch_size=8,
        learning_rate=0.1,
        schedule="cosine",
        weight_decay=5e-4,
        augmentation="crop-flip",
        method_options=("beta=6",),
        budget="fixed",
        awp=0.0,
        averaging=0.0,
    )
