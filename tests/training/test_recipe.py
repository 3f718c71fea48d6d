import dataclasses

import jax
import numpy as np
import pytest

from rctaf_jax.config import TrainConfig
from rctaf_jax.errors import InputError
from rctaf_jax.training.recipe import num_steps, resolve
from rctaf_jax.training.registry import METHODS
from rctaf_jax.training.schedules import SCHEDULES, schedule_named


def test_trades_is_resolved_as_published(dataset):
    config = resolve(TrainConfig(method="trades", batch_size=8), dataset)
    assert (config.epochs, config.learning_rate, config.schedule) == (76, 0.1, "step")
    assert (config.attack_steps, config.weight_decay) == (10, 2e-4)
    assert config.step_size == pytest.approx(0.007)
    assert config.augmentation == "crop-flip"
    assert num_steps(config, dataset) == 76 * 5


def test_the_step_size_follows_the_threat_model(dataset):
    config = TrainConfig(method="pgd-at", batch_size=8, epsilon=4 / 255)
    assert resolve(config, dataset).step_size == pytest.approx(1 / 255)
    l2 = dataclasses.replace(config, norm="L2", epsilon=0.5)
    assert resolve(l2, dataset).step_size == pytest.approx(0.1)


def test_what_was_said_is_kept_and_digits_are_not_mirrored(dataset, config):
    assert resolve(config, dataset) == config
    digits = dataclasses.replace(dataset, name="digits[train=3]")
    assert resolve(TrainConfig(batch_size=8), digits).augmentation == "none"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"epsilon": -1.0}, "epsilon must be"),
        ({"norm": "L7"}, "unknown norm 'L7'"),
        ({"batch_size": 41}, "batch size 41 is larger than the 40 training images of blobs"),
        ({"batch_size": 0}, "batch-size must be a positive number"),
        ({"epochs": 0}, "epochs must be a positive number"),
        ({"learning_rate": -0.1}, "learning-rate must be a positive number"),
        ({"weight_decay": -1.0}, "weight-decay must be 0 or more"),
        ({"attack_steps": -1}, "attack-steps must be 0 or more"),
        ({"augmentation": "cutmix"}, "unknown augmentation 'cutmix'"),
        ({"schedule": "warm"}, "unknown schedule 'warm'"),
        ({"dtype": "float64"}, "JAX_ENABLE_X64=1"),
    ],
)
def test_what_cannot_run_is_refused(dataset, config, change, message):
    with pytest.raises(InputError, match=message):
        resolve(dataclasses.replace(config, **change), dataset)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_at_one_and_never_rise(name):
    schedule = jax.vmap(schedule_named(name, 110, (0.5, 0.9)))
    values = np.asarray(schedule(np.arange(110)) * np.ones(110))
    assert values[0] == 1
    assert (np.diff(values) <= 0).all()
    assert (values > 0).all()


def test_schedules_by_hand():
    """The decay of TRADES at epochs 75, 90 and 100, in the published 76 epochs of 10 steps."""
    cosine = schedule_named("cosine", 100)
    step = schedule_named("step", 760, METHODS["trades"][1].decays)
    np.testing.assert_allclose(cosine(25), (1 + np.cos(np.pi / 4)) / 2, rtol=1e-6)
    times = (0, 749, 750, 759, 900, 1000)
    np.testing.assert_allclose([step(t) for t in times], [1, 1, 0.1, 0.1, 0.01, 1e-3], rtol=1e-6)
