"""One training step, and many of them in one program: pure functions that know one axis name."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt8

from rctaf_jax.batching import pixels

from .augmentation import Augmentation
from .method import Budget, Labels, LossOutput, Method
from .schedules import Schedule
from .state import TrainState


class Data(NamedTuple):
    """The whole training split, on the device."""

    images: UInt8[Array, "examples height width channel"]
    labels: Int[Array, " examples"]


class Batch(NamedTuple):
    """One device's share of a batch, and one key per example for its random draws."""

    images: UInt8[Array, "batch height width channel"]
    labels: Labels
    keys: PRNGKeyArray


class Settings(NamedTuple):
    """Traced numbers: changing one never recompiles. Pixels and attacks take their dtype.

    Attributes:
      epsilon: radius of the threat model, pixels in [0, 1].
      step_size: of the inner maximisation, same unit.
      learning_rate: peak of the schedule.
    """

    epsilon: Float[Array, ""]
    step_size: Float[Array, ""]
    learning_rate: Float[Array, ""]


class Metrics(NamedTuple):
    """Sums over steps.

    Attributes:
      loss: of the losses; divide by `num_steps`.
      accuracy: of the batches' shares of right answers; divide by `num_steps`.
      num_steps: how many steps.
      first_bad_step: the first step whose loss was not finite, `NEVER` if none.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    num_steps: Int[Array, ""]
    first_bad_step: Int[Array, ""]


NEVER = jnp.iinfo(jnp.int32).max
Step = Callable[[TrainState, Batch, Settings], tuple[TrainState, Metrics]]
Sample = Callable[[Data, TrainState], Batch]


def zero_metrics() -> Metrics:
    """The sums before any step."""
    return Metrics(jnp.zeros(()), jnp.zeros(()), jnp.int32(0), jnp.int32(NEVER))


def make_sample(*, batch_size: int, axis_name: str | None = None) -> Sample:
    """Draw this device's share of the batch for the state's step.

    Each epoch is a permutation of all examples cut into whole batches; the examples left over
    differ from epoch to epoch. Order and keys depend on the step and on the place in the whole
    batch alone, never on the number of devices.
    """

    def sample(data: Data, state: TrainState) -> Batch:
        order_key, example_key = jax.random.split(jax.random.wrap_key_data(state.seed))
        num_examples = data.labels.shape[0]
        epoch, position = jnp.divmod(state.step, num_examples // batch_size)
        order = jax.random.permutation(jax.random.fold_in(order_key, epoch), num_examples)
        share = batch_size // (1 if axis_name is None else jax.lax.axis_size(axis_name))
        places = jnp.arange(share)
        if axis_name is not None:
            places = places + share * jax.lax.axis_index(axis_name)
        chosen = order[position * batch_size + places]
        step_key = jax.random.fold_in(example_key, state.step)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(step_key, places)
        return Batch(data.images[chosen], data.labels[chosen], keys)

    return sample


def make_step(
    apply: Callable[..., tuple[Array, PyTree]],
    method: Method,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    augment: Augmentation,
    *,
    norm: str,
    attack_steps: int,
    axis_name: str | None = None,
) -> Step:
    """Build `step(state, batch, settings) -> (state, metrics)`.

    Args:
      apply: the model's `apply(variables, x, *, train, axis_name)`.
      method: inner maximisation and loss.
      optimizer: see `state.sgd`; its update is multiplied by minus the learning rate.
      schedule: multiplier of the learning rate by step.
      augment: applied to each uint8 image.
      norm: of the threat model.
      attack_steps: of the inner maximisation.
      axis_name: the device axis for gradient means and BatchNorm; None for one device.
    """

    def mean(tree: PyTree) -> PyTree:
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def step(state: TrainState, batch: Batch, settings: Settings) -> tuple[TrainState, Metrics]:
        augment_keys, attack_keys = jnp.unstack(jax.vmap(jax.random.split)(batch.keys), axis=1)
        images = pixels(jax.vmap(augment)(augment_keys, batch.images))
        images = images.astype(settings.epsilon.dtype)
        budget = Budget(norm, settings.epsilon, settings.step_size, attack_steps)

        def predict(x: Array) -> Array:
            return apply(state.variables, x, train=False)[0]

        adversarial = method.perturb(attack_keys, predict, images, batch.labels, budget)
        adversarial = jax.lax.stop_gradient(adversarial)

        def objective(params: PyTree) -> tuple[Array, LossOutput]:
            def forward(batch_stats: PyTree, x: Array) -> tuple[Array, PyTree]:
                variables = {**state.variables, "params": params, "batch_stats": batch_stats}
                return apply(variables, x, train=True, axis_name=axis_name)

            return method.loss(forward, state.batch_stats, images, adversarial, batch.labels)

        (loss, output), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        accuracy = jnp.mean(jnp.argmax(output.logits, -1) == batch.labels)
        loss, accuracy, gradient, batch_stats = mean((loss, accuracy, gradient, output.batch_stats))
        rate = settings.learning_rate * schedule(state.step)
        state = descend(optimizer, state._replace(batch_stats=batch_stats), gradient, rate)
        bad_step = jnp.where(jnp.isfinite(loss), NEVER, state.step - 1)
        return state, Metrics(loss, accuracy, jnp.int32(1), bad_step)

    return step


def descend(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    gradient: PyTree,
    rate: Float[Array, ""],
) -> TrainState:
    """Move the weights by minus `rate` times the optimiser's update, and count the step."""
    updates, momentum = optimizer.update(gradient, state.optimizer, state.params)
    updates = jax.tree.map(lambda u: (-rate * u).astype(u.dtype), updates)
    params = optax.apply_updates(state.params, updates)
    return state._replace(step=state.step + 1, params=params, optimizer=momentum)


def make_advance(
    step: Step, sample: Sample
) -> Callable[[TrainState, Data, Settings, int | Array], tuple[TrainState, Metrics]]:
    """Many steps per call: `advance(state, data, settings, num_steps)`, `num_steps` traced.

    Metrics are summed over the steps, so the device is never waited for in between.
    """

    def advance(
        state: TrainState, data: Data, settings: Settings, num_steps: int | Array
    ) -> tuple[TrainState, Metrics]:
        def body(_: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, total = carry
            state, new = step(state, sample(data, state), settings)
            first_bad = jnp.minimum(total.first_bad_step, new.first_bad_step)
            summed = jax.tree.map(lambda sum_, x: sum_ + x.astype(sum_.dtype), total, new)
            return state, summed._replace(first_bad_step=first_bad)

        return jax.lax.fori_loop(0, num_steps, body, (state, zero_metrics()))

    return advance
