"""Training in one call: a model's name, images, a method; a network comes back.

    network = train("resnet18", load("cifar10"), method="trades", epochs=10)
    logits = network(images)

On all devices of this host, as `rctaf train` does it, and without a folder: nothing is written.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax import parallel
from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.config import TrainConfig
from rctaf_jax.data import Dataset
from rctaf_jax.errors import InputError
from rctaf_jax.models import Network, OwnModel, network_of, register_model
from rctaf_jax.models.normalisation import with_input
from rctaf_jax.values import check_seed, kind_of

from .loop import check_finite, run_steps
from .recipe import ResolvedTraining, check_alpha, resolve
from .state import TrainState
from .step import Metrics
from .trainer import device_data, make_trainer


class EpochReport(NamedTuple):
    """What callbacks are told after each epoch.

    Attributes:
      epoch: just done, from 1.
      num_epochs: of the whole run.
      loss, accuracy: means over the epoch's steps; the accuracy is that of the training batches,
        on clean images where the method sees them.
      seconds: that the epoch took.
      network: as it is now, with the averaged weights where the run averages them.
    """

    epoch: int
    num_epochs: int
    loss: float
    accuracy: float
    seconds: float
    network: Network


Callback = Callable[[EpochReport], Any]


def train(
    model: str | OwnModel,
    dataset: Dataset,
    *,
    activation: str | Activation = "rct-af:beta=1,curvature=7",
    method: str = "trades",
    epsilon: float = TrainConfig.epsilon,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    devices: Sequence[jax.Device] | None = None,
    **settings: Any,
) -> Network:
    """Train a network.

    Args:
      model: as `models.create` takes it; a model of one's own is registered as "own".
      dataset: of `data.load`, `from_arrays`, ...
      activation: the network's only nonlinearity.
      method: standard, pgd-at, trades, mart, dkl, acat, dajat, or one of one's own.
      epsilon: radius of the threat model, pixels in [0, 1].
      seed: of the weights, the order of the data and the attack's starts.
      callbacks: each is called with an `EpochReport` after every epoch; where one returns what is
        true, the training ends there. What one raises is the caller's own.
      devices: that share each batch; all of this host when left out.
      settings: further fields of `config.TrainConfig`: epochs, batch_size, learning_rate, norm,
        attack_steps, awp, ...; what is left out is the method's published recipe.

    Returns:
      The network, its weights as host arrays; what it was trained with is in its `facts`.

    Raises:
      InputError: naming what cannot be; its kind `loop.DivergedError` where the loss stops being
        finite.
    """
    if isinstance(model, OwnModel):
        register_model("own", model)
        model = "own"
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(f"train has no setting {unknown[0]!r}: it has {', '.join(sorted(known))}.")
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"dataset is {kind_of(dataset)}: give what rctaf_jax.data.load, from_arrays or "
            "from_examples returns."
        )
    if not (isinstance(callbacks, Sequence) and all(map(callable, callbacks))):
        raise InputError(f"callbacks is {callbacks!r}; it must be a list of functions of a report.")
    check_seed(seed)
    parsed = parse_activation(activation)
    training = resolve(
        TrainConfig(model=model, method=method, epsilon=epsilon, **settings), dataset
    )
    check_alpha(parsed, training.config.dtype)
    state = _train(training, parsed, dataset, seed, callbacks, devices)
    return _network(training, parsed, dataset, state)


def _train(
    training: ResolvedTraining,
    activation: Activation,
    dataset: Dataset,
    seed: int,
    callbacks: Sequence[Callback],
    devices: Sequence[jax.Device] | None,
) -> TrainState:
    """The state after the last epoch, as host arrays."""
    chosen = jax.local_devices() if devices is None else list(devices)
    parallel.check_divides(training.config.batch_size, len(chosen))
    trainer = make_trainer(training, activation, dataset, axis_name=parallel.AXIS)
    advance = parallel.data_parallel(trainer.advance, chosen, num_arguments=4, shared=(1, 2, 3))
    state = parallel.replicate(trainer.initial(seed, activation.alpha), chosen)
    seen: list[Metrics] = []
    started = time.monotonic()

    def report(_: int, metrics: Metrics) -> None:
        check_finite(metrics, "try a lower learning rate or a smaller curvature.")
        seen.append(metrics)

    def after_epoch(step: int, state: TrainState) -> bool:
        nonlocal started
        loss, accuracy = (
            sum(float(np.asarray(getattr(one, name))[0]) for one in seen) / training.epoch_steps
            for name in ("loss", "accuracy")
        )
        seconds = time.monotonic() - started
        is_enough = False
        if callbacks:
            network = _network(training, activation, dataset, parallel.first(state))
            epoch = step // training.epoch_steps
            told = EpochReport(epoch, training.epochs, loss, accuracy, seconds, network)
            is_enough = any([bool(callback(told)) for callback in callbacks])  # all are told
        seen.clear()
        started = time.monotonic()
        return is_enough

    state = run_steps(
        advance,
        state,
        device_data(dataset),
        trainer.settings,
        first_step=0,
        num_steps=training.num_steps,
        report=report,
        save=lambda *_: None,
        seconds_per_save=math.inf,
        epoch_steps=training.epoch_steps,
        after_epoch=after_epoch,
    )
    return parallel.first(state)


def _network(
    training: ResolvedTraining, activation: Activation, dataset: Dataset, state: TrainState
) -> Network:
    config = training.config
    variables = with_input(state.final_variables, config.mean, config.std, dataset.image_shape[-1])
    return network_of(
        config.model,
        jax.tree.map(jnp.asarray, variables),
        activation,
        {
            "method": config.method,
            "norm": config.norm,
            "epsilon": config.epsilon,
            "step": int(state.step),
            "data": dataset.name,
        },
        width=config.width,
        num_classes=dataset.num_classes,
    )
