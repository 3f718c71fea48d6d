import dataclasses

import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.sweep.presets import PRESETS, preset_for


def test_the_preset_follows_the_data():
    assert preset_for(None, None) == preset_for(None, "digits") == "digits"
    assert preset_for(None, "digits-797") == "digits"
    assert preset_for(None, "mnist-5k") == "mnist-5k"
    assert preset_for(None, "cifar10") == preset_for(None, "mine.npz") == "recipe"
    assert preset_for("cifar10-small", None) == "cifar10-small"
    with pytest.raises(InputError, match=r"'big'.*digits, mnist-5k, cifar10-small, recipe"):
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
        "mean",
        "std",
        "budget",
        "awp",
        "awp_epoch",
        "averaging",
    }
