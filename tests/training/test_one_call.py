"""Training in one call."""

import dataclasses

import jax
import numpy as np
import pytest
from rich.console import Console

from rctaf_jax.config import DataConfig, RunConfig
from rctaf_jax.data import load_data
from rctaf_jax.errors import InputError
from rctaf_jax.experiments.run.folder import resolve_run
from rctaf_jax.experiments.run.network import load_network
from rctaf_jax.experiments.run.train import train_run
from rctaf_jax.models import Network, function_model
from rctaf_jax.models.table import _OWN
from rctaf_jax.training import train


def settings_of(config):
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def test_the_same_network_as_the_command_trains(config, tmp_path):
    data = DataConfig("digits", num_train=32, num_test=10)
    config = dataclasses.replace(config, model="mlp-1x6", averaging=0.9, mean=(0.4,), std=(0.3,))
    run = RunConfig(data, config, "gelu", 3)
    train_run(resolve_run(run), tmp_path / "run", "", Console(quiet=True))
    expected = load_network(tmp_path / "run")
    told = []
    network = train(
        dataset=load_data(data),
        activation="gelu",
        seed=3,
        callbacks=[told.append],
        **settings_of(config),
    )
    assert isinstance(network, Network)
    jax.tree.map(np.testing.assert_array_equal, network.variables, expected.variables)
    assert (network.model, network.num_classes, network.activation.text) == ("mlp-1x6", 10, "gelu")
    assert network.facts["method"] == "trades"
    assert [report.epoch for report in told] == [1, 2, 3]
    assert {report.num_epochs for report in told} == {3}
    jax.tree.map(np.testing.assert_array_equal, told[-1].network.variables, network.variables)
    images = np.asarray(load_data(data).test.images, np.float32) / 255
    assert not np.array_equal(told[0].network(images), network(images))


def test_epochs_are_told_and_may_end_it(config, dataset):
    """The loss falls, and the epoch at which a callback says so is the last."""
    told, others = [], []

    def enough(report):
        told.append(report)
        return np.float32(report.epoch) == 4  # NumPy's True

    config = dataclasses.replace(config, model="mlp-1x16", epochs=9, method_options=())
    settings = settings_of(config) | {"method": "standard", "attack_steps": 0, "step_size": 0.0}
    settings |= {"augmentation": "none", "width": 1.0}
    network = train(dataset=dataset, callbacks=[enough, others.append], **settings)
    assert len(told) == len(others) == 4
    assert told[-1].loss < told[0].loss
    assert told[-1].accuracy > told[0].accuracy
    assert network.facts["step"] == 4 * 5
    assert all(report.seconds > 0 for report in told)


def test_a_model_of_ones_own(config, dataset, monkeypatch):
    monkeypatch.delitem(_OWN, "own", raising=False)

    def build(image_shape, num_classes, activation):
        def init(key):
            return {"params": {"w": jax.random.normal(key, (64, num_classes)) / 8}}

        def apply(variables, images, train):
            return activation(images.reshape(len(images), -1) @ variables["params"]["w"])

        return init, apply

    settings = settings_of(config) | {"model": function_model(build), "width": 1.0, "epochs": 1}
    network = train(dataset=dataset, devices=jax.local_devices()[:1], **settings)
    assert network.model == "own"
    assert network(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rat": 0.1}, "train has no setting 'learning_rat': it has "),
        ({"dataset": "digits"}, "dataset is a str: give what rctaf_jax.data.load"),
        ({"model": "resnet19"}, "unknown model 'resnet19'"),
        ({"method": "madry"}, "unknown method 'madry'"),
        ({"activation": "curvy"}, "unknown activation 'curvy'"),
        ({"epsilon": -1.0}, "epsilon must be a finite number"),
        ({"seed": 2**70}, "seed"),
        ({"callbacks": print}, "it must be a list of functions"),
        ({"callbacks": ["print"]}, "it must be a list of functions"),
        ({"batch_size": 41}, "batch size 41 is larger than the 40 training images"),
        ({"learning_rate": 1e30}, "the loss is not finite at step"),
    ],
)
def test_what_cannot_be_is_a_sentence(config, dataset, changes, message):
    settings = settings_of(config) | {"model": "mlp-1x4", "dataset": dataset} | changes
    with pytest.raises(InputError, match=message):
        train(**settings)
