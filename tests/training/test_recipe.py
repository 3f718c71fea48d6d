import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Split
from rctaf_jax.errors import InputError
from rctaf_jax.training.budgets import BUDGETS, RunShape, budget_named
from rctaf_jax.training.methods.method import RecipeSetting
from rctaf_jax.training.methods.registry import METHODS
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.schedules import SCHEDULES, RunLength, schedule_named


def test_trades_is_resolved_as_published(dataset):
    training = resolve(TrainConfig(method="trades", batch_size=8), dataset)
    config = training.config
    assert (config.epochs, config.learning_rate, config.schedule) == (76, 0.1, "step")
    assert (config.attack_steps, config.weight_decay) == (10, 2e-4)
    assert config.step_size == pytest.approx(0.007)
    assert config.augmentation == "crop-flip"
    assert training.num_steps == 76 * 5


def test_the_step_size_follows_the_threat_model(dataset):
    config = TrainConfig(method="pgd-at", batch_size=8, epsilon=4 / 255)
    assert resolve(config, dataset).step_size == pytest.approx(1 / 255)
    l2 = dataclasses.replace(config, norm="L2", epsilon=0.5)
    assert resolve(l2, dataset).step_size == pytest.approx(0.1)


def test_what_was_said_is_kept_and_digits_are_not_mirrored(dataset, config):
    assert resolve(config, dataset).config == config
    digits = dataclasses.replace(dataset, name="digits[train=3]")
    assert resolve(TrainConfig(batch_size=8), digits).config.augmentation == "none"


@pytest.mark.parametrize("method", METHODS)
def test_what_was_filled_in_resolves_to_itself(dataset, method):
    """So a folder's config.json, read back, is the run that it was."""
    for model in ("resnet18", "wrn-10-1"):
        once = resolve(TrainConfig(method=method, model=model, batch_size=8), dataset).config
        assert resolve(once, dataset).config == once
        assert None not in {
            value
            for name, value in dataclasses.asdict(once).items()
            if name not in ("attack_steps", "step_size", "awp_epoch", "mean", "std")
        }


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
        ({"budget": "medium"}, "unknown budget 'medium'"),
        ({"budget": "high"}, "budget 'high' sets the steps itself: leave out attack-steps"),
        ({"method": "standard", "budget": "low"}, "standard has no inner maximisation"),
        ({"method": "dajat", "attack_steps": None}, "has no fixed budget of its own"),
        ({"method_options": ("gamma=2",)}, "trades has no option 'gamma=2': its options are beta"),
        ({"method": "standard", "method_options": ("beta=2",)}, "its options are none"),
        ({"method_options": ("beta=much",)}, "'much' is not a number"),
        ({"method_options": ("beta=-1",)}, "must be a finite number of 0 or more"),
        ({"method": "dkl", "method_options": ("temperature=0",)}, "temperature must be more than"),
        ({"awp": -0.1}, "awp must be 0"),
        ({"awp_epoch": 2}, "awp-epoch 2 without awp"),
        ({"awp": 0.005, "awp_epoch": 0}, "one of the run's epochs, 1 to 3; received 0"),
        ({"awp": 0.005, "awp_epoch": 4}, "one of the run's epochs, 1 to 3; received 4"),
        ({"averaging": 1.0}, "averaging must be 0 "),
    ],
)
def test_what_cannot_run_is_refused(dataset, config, change, message):
    if "method" in change and "method_options" not in change:
        change = {**change, "method_options": ()}
    with pytest.raises(InputError, match=message):
        resolve(dataclasses.replace(config, **change), dataset)


def test_dajat_is_resolved_as_published(dataset):
    config = resolve(TrainConfig(method="dajat", model="resnet18", batch_size=8), dataset).config
    assert (config.epochs, config.learning_rate, config.schedule) == (200, 0.2, "epoch-cosine")
    assert (config.budget, config.attack_steps, config.step_size) == ("high", None, None)
    assert (config.weight_decay, config.awp, config.awp_epoch) == (5e-4, 0.005, 10)
    assert config.method_options == ("beta=11", "js-weight=2", "label-smoothing=0")
    changed = dataclasses.replace(config, method_options=("js-weight=3",))
    assert "js-weight=3" in resolve(changed, dataset).config.method_options


def test_the_average_and_the_perturbation_scale_with_the_run(dataset):
    """tau is the published 0.9996 from 110 epochs of 390 steps on; AWP begins at 10 of 200."""
    rows = np.zeros((50_000, 1, 1, 1), np.uint8), np.zeros(50_000, np.int64)
    cifar = dataclasses.replace(dataset, train=Split(*rows))
    config = TrainConfig(method="dajat", model="resnet18")
    assert resolve(config, cifar).averaging == pytest.approx(0.9996, abs=1e-12)
    low = dataclasses.replace(config, budget="low", epochs=110)
    assert resolve(low, cifar).averaging == pytest.approx(0.9996, abs=1e-12)
    short = resolve(dataclasses.replace(config, epochs=11), cifar).config
    assert short.averaging == pytest.approx(1 - 0.0004 * 10)
    assert short.awp_epoch == 1
    assert resolve(dataclasses.replace(config, epochs=400), cifar).config.awp_epoch == 10
    given = dataclasses.replace(config, epochs=11, averaging=0.5, awp=0.1, awp_epoch=7)
    given = resolve(given, cifar).config
    assert (given.averaging, given.awp, given.awp_epoch) == (0.5, 0.1, 7)


def test_budgets_by_hand():
    """Radius, steps and their size in epochs 0 to 7 of 8."""
    expected = {
        "fixed": ([1.0] * 8, [5] * 8, [0.25] * 8),
        "low": (np.arange(1, 9) / 8, [2] * 8, np.arange(1, 9) / 8),
        "high-released": (np.arange(1, 9) / 8, [5] * 8, np.arange(1, 9) / 16),
        "high": (
            np.arange(1, 9) / 8,
            [2, 2, 3, 3, 4, 4, 5, 5],
            np.arange(1, 9) / 8 * np.repeat([1, 2 / 3, 1 / 2, 1 / 2], 2),
        ),
    }
    assert set(expected) == set(BUDGETS)
    for name, (radii, steps, sizes) in expected.items():
        schedule = budget_named(name, RunShape("Linf", 8, 5))
        budgets = [schedule(jnp.int32(e), jnp.float32(1), jnp.float32(0.25)) for e in range(8)]
        np.testing.assert_allclose([b.epsilon for b in budgets], radii, rtol=1e-6)
        np.testing.assert_array_equal([b.num_steps for b in budgets], steps)
        np.testing.assert_allclose([b.step_size for b in budgets], sizes, rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_start_at_one_and_never_rise(name):
    schedule = jax.vmap(schedule_named(name, RunLength(11, 10, (0.5, 0.9))))
    values = np.asarray(schedule(np.arange(110)) * np.ones(110))
    assert values[0] == (1 if name != "epoch-cosine-end" else pytest.approx(0.983, abs=1e-3))
    assert (np.diff(values) <= 0).all()
    assert (values > 0).all()


def test_options_are_kept_exactly(config, dataset):
    wanted = dataclasses.replace(config, method="trades", method_options=("beta=1/3",))
    (option,) = resolve(wanted, dataset).config.method_options
    assert float(option.removeprefix("beta=")) == 1 / 3


def test_only_the_packages_digits_are_not_mirrored(config, dataset):
    left_out = dataclasses.replace(config, augmentation=None)
    ours = dataclasses.replace(dataset, name="digits[train=48,test=16]")
    colours = [Split(np.repeat(s.images, 3, axis=-1), s.labels) for s in (ours.train, ours.test)]
    photographs = dataclasses.replace(ours, train=colours[0], test=colours[1])
    assert resolve(left_out, photographs).config.augmentation == "crop-flip"


@pytest.mark.parametrize(
    ("name", "side", "augmentation"),
    [
        ("digits", 8, "none"),
        ("digits[size=4]", 4, "none"),
        ("digits", 28, "crop-flip"),  # somebody's own file
        ("digits-797", 8, "none"),
        ("digits-797[train=48]", 8, "none"),
        ("mnist-5k", 28, "none"),
        ("mnist-5k[size=14]", 14, "none"),
        ("mnist", 28, "crop-flip"),
    ],
)
def test_no_digit_is_mirrored(config, dataset, name, side, augmentation):
    left_out = dataclasses.replace(config, augmentation=None)
    splits = [
        Split(np.zeros((len(s.labels), side, side, 1), np.uint8), s.labels)
        for s in (dataset.train, dataset.test)
    ]
    images = dataclasses.replace(dataset, name=name, train=splits[0], test=splits[1])
    assert resolve(left_out, images).config.augmentation == augmentation


def test_schedules_by_hand():
    """The published decays, in epochs of 10 steps.

    TRADES' and MART's released code counts epochs from 1 and decays from 75, 90 and 100 on, early
    stopping's after 100 and 105 whole epochs.
    """
    cosine = schedule_named("cosine", RunLength(10, 10))
    decays = METHODS["trades"].recipe(RecipeSetting()).decays
    step = schedule_named("step", RunLength(76, 10, decays))
    np.testing.assert_allclose(cosine(25), (1 + np.cos(np.pi / 4)) / 2, rtol=1e-6)
    times = (0, 739, 740, 759, 890, 990)
    np.testing.assert_allclose([step(t) for t in times], [1, 1, 0.1, 0.1, 0.01, 1e-3], rtol=1e-6)
    wide_mart = METHODS["mart"].recipe(RecipeSetting(is_wide=True)).decays
    step = schedule_named("step", RunLength(90, 10, wide_mart))
    np.testing.assert_allclose([step(t) for t in (889, 890)], [0.1, 0.01], rtol=1e-6)
    early = METHODS["pgd-at"].recipe(RecipeSetting()).decays
    step = schedule_named("step", RunLength(110, 10, early))
    times = (999, 1000, 1049, 1050)
    np.testing.assert_allclose([step(t) for t in times], [1, 0.1, 0.1, 0.01], rtol=1e-6)
    by_epoch = [schedule_named(f"epoch-cosine{end}", RunLength(4, 10)) for end in ("", "-end")]
    for schedule, angles in zip(by_epoch, (np.arange(4) / 4, np.arange(1, 5) / 5), strict=True):
        values = [schedule(jnp.int32(t)) for t in range(40)]
        expected = np.repeat((1 + np.cos(np.pi * angles)) / 2, 10)
        np.testing.assert_allclose(values, expected, rtol=1e-6)
