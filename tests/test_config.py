import dataclasses

import pytest

from rctaf_jax.config import PRESETS, preset_for
from rctaf_jax.errors import InputError
from rctaf_jax.values import check_positive, parse_number


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.5", 0.5), ("1e-3", 1e-3), ("-2", -2.0)]
)
def test_numbers_and_fractions(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["eight", "8/0", "1/2/3", "", "8/"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(InputError, match="is not a number"):
        parse_number(text)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_check_positive(value):
    check_positive(batch_size=3, step_size=None)
    with pytest.raises(InputError, match="batch-size must be a positive number"):
        check_positive(batch_size=value)


def test_the_preset_follows_the_data():
    assert preset_for(None, None) == preset_for(None, "digits") == "digits"
    assert preset_for(None, "cifar10") == preset_for(None, "mine.npz") == "recipe"
    assert preset_for("cifar10-small", None) == "cifar10-small"
    with pytest.raises(InputError, match=r"'big'.*digits, cifar10-small, recipe"):
        preset_for("big", None)


def test_the_recipe_preset_leaves_every_choice_to_the_method():
    train = PRESETS["recipe"].train
    left_out = {
        field.name for field in dataclasses.fields(train) if getattr(train, field.name) is None
    }
    assert left_out == {
        "attack_steps",
        "step_size",
        "epochs",
        "learning_rate",
        "schedule",
        "weight_decay",
        "augmentation",
        "budget",
        "awp",
        "awp_epoch",
        "averaging",
    }
