"""One training step, and many of them in one program: pure functions that know one axis name."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from rctaf_jax.aliases import Pixels
from rctaf_jax.batching import pixels
from rctaf_jax.models import Apply

from .augmentation import Augmentation
from .averaging import moving_average
from .awp import adversarial_weights
from .batches import DeviceBatch, DeviceData, SampleBatch
from .budgets import BudgetSchedule
from .methods.method import Method, ViewLogits
from .schedules import RateSchedule
from .state import TrainState, Weights, view_variables


class TracedNumbers(NamedTuple):
    """Traced numbers: changing one never recompiles. Pixels and attacks take their dtype.

    Attributes:
      epsilon: radius of the threat model, pixels in [0, 1].
      step_size: of the inner maximisation, same unit.
      learning_rate: peak of the schedule.
      awp: size gamma of the adversarial weight perturbation.
      averaging: decay tau of the weight averaging.
    """

    epsilon: Float[Array, ""]
    step_size: Float[Array, ""]
    learning_rate: Float[Array, ""]
    awp: Float[Array, ""]
    averaging: Float[Array, ""]


class StepPlan(NamedTuple):
    """What is compiled into a step.

    Attributes:
      apply: the model's `apply(variables, x, *, train, axis_name)`.
      method: views, inner maximisation and loss.
      optimizer: see `state.sgd`; its update is multiplied by minus the learning rate.
      schedule: multiplier of the learning rate by step.
      budget: of the inner maximisation by epoch.
      augmentations: of a uint8 image, by view.
      epoch_steps: steps of an epoch.
      awp_epoch: the first with adversarial weight perturbation, from 0; None for never.
      averaging_epoch: the first that is averaged, from 0; None without averaging.
      axis_name: the device axis for gradient means and BatchNorm; None for one device.
    """

    apply: Apply
    method: Method
    optimizer: optax.GradientTransformation
    schedule: RateSchedule
    budget: BudgetSchedule
    augmentations: Mapping[str, Augmentation]
    epoch_steps: int
    awp_epoch: int | None = None
    averaging_epoch: int | None = None
    axis_name: str | None = None


class Metrics(NamedTuple):
    """Sums over steps.

    Attributes:
      loss: of the losses; divide by `num_steps`.
      accuracy: of the batches' shares of right answers; divide by `num_steps`.
      num_steps: how many steps.
      first_bad_step: the first step whose loss was not finite, or whose weights, if it is the last
        of a call; `NEVER` if none.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    num_steps: Int[Array, ""]
    first_bad_step: Int[Array, ""]


class View(NamedTuple):
    """One view of a batch: its BatchNorm set's name and its images."""

    name: str
    clean: Pixels
    adversarial: Pixels


NEVER = jnp.iinfo(jnp.int32).max
Step = Callable[[TrainState, DeviceBatch, TracedNumbers], tuple[TrainState, Metrics]]


def zero_metrics() -> Metrics:
    """The sums before any step."""
    return Metrics(jnp.zeros(()), jnp.zeros(()), jnp.int32(0), jnp.int32(NEVER))


def make_step(plan: StepPlan) -> Step:
    """Build `step(state, batch, settings) -> (state, metrics)`."""
    axis, method = plan.axis_name, plan.method

    def mean(tree: PyTree) -> PyTree:
        return tree if axis is None else jax.lax.pmean(tree, axis)

    def total(tree: PyTree) -> PyTree:
        return tree if axis is None else jax.lax.psum(tree, axis)

    def step(
        state: TrainState, batch: DeviceBatch, settings: TracedNumbers
    ) -> tuple[TrainState, Metrics]:
        epoch = state.step // plan.epoch_steps
        views = make_views(plan, state, batch, settings)

        def objective(weights: Weights, views: Sequence[View]) -> tuple[Array, PyTree]:
            logits, statistics = train_logits(plan, state, weights, views)
            return method.loss(logits, batch.labels, state.memory), (logits, statistics)

        def ascend(weights: Weights) -> Weights:
            def base_loss(params: PyTree) -> Array:
                return objective(weights._replace(params=params), views[:1])[0]

            # Averaged before its norm is taken, or each device would perturb otherwise.
            gradient = mean(jax.grad(base_loss)(weights.params))
            return weights._replace(
                params=adversarial_weights(weights.params, gradient, settings.awp)
            )

        # The gradient is taken at the perturbed weights and applied to those of the state; the
        # adversarial images stay those of the latter.
        weights = state.weights
        if plan.awp_epoch is not None:
            weights = jax.lax.cond(epoch >= plan.awp_epoch, ascend, lambda same: same, weights)
        differentiate = jax.value_and_grad(objective, has_aux=True)
        (loss, (logits, statistics)), gradient = differentiate(weights, views)
        accuracy = mean(jnp.mean(jnp.argmax(logits_seen(logits[0]), -1) == batch.labels))
        # Each device's loss is the mean over its own share of the batch.
        loss, gradient, statistics = mean((loss, gradient, statistics))
        observed = total(method.memory.observe(logits, batch.labels))
        ends_epoch = (state.step + 1) % plan.epoch_steps == 0
        memory = method.memory.update(state.memory, observed, ends_epoch)
        # Before the step is counted, so that the first one takes the schedule's first value.
        rate = settings.learning_rate * plan.schedule(state.step)
        state = state._replace(statistics=statistics, memory=memory)
        state = descend(plan.optimizer, state, gradient, rate)
        if plan.averaging_epoch is not None:
            # After the descent: the average holds the weights that this step leaves behind.
            has_begun = epoch >= plan.averaging_epoch
            current = {"params": state.params, "batch_stats": state.batch_stats}
            averaged = moving_average(state.averaged, current, settings.averaging, has_begun)
            state = state._replace(averaged=averaged)
        # `descend` has counted this step, and a loss is that of the weights before it.
        bad_step = jnp.where(jnp.isfinite(loss), NEVER, state.step - 1)
        return state, Metrics(loss, accuracy, jnp.int32(1), bad_step)

    return step


def make_views(
    plan: StepPlan, state: TrainState, batch: DeviceBatch, settings: TracedNumbers
) -> tuple[View, ...]:
    """The method's views of a batch and their adversarial images, without gradient.

    The first view's draws are those of the batch's keys, whatever views follow.
    """
    epoch = state.step // plan.epoch_steps
    budget = plan.budget(epoch, settings.epsilon, settings.step_size)

    def make_view(number: int, name: str) -> View:
        keys = batch.keys
        if number:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        augment_keys, attack_keys = jnp.unstack(jax.vmap(jax.random.split)(keys), axis=1)
        images = pixels(jax.vmap(plan.augmentations[name])(augment_keys, batch.images))
        images = images.astype(settings.epsilon.dtype)
        variables = view_variables(state.weights, state.statistics, state.activation, name)
        adversarial = plan.method.perturb(
            attack_keys,
            lambda x: plan.apply(variables, x, train=False)[0],
            images,
            batch.labels,
            budget,
        )
        return View(name, images, jax.lax.stop_gradient(adversarial))

    return tuple(make_view(number, name) for number, name in enumerate(plan.method.views))


def train_logits(
    plan: StepPlan, state: TrainState, weights: Weights, views: Sequence[View]
) -> tuple[list[ViewLogits], dict[str, PyTree]]:
    """Logits of the method's passes in training mode, and the statistics after all of them."""
    statistics, all_logits = dict(state.statistics), []
    for view in views:
        logits = {}
        for kind in plan.method.passes:
            variables = view_variables(weights, statistics, state.activation, view.name)
            images = getattr(view, kind)
            logits[kind], statistics[view.name] = plan.apply(
                variables, images, train=True, axis_name=plan.axis_name
            )
        all_logits.append(ViewLogits(logits))
    return all_logits, statistics


def logits_seen(logits: ViewLogits) -> Array:
    """The logits that the reported training accuracy is of: clean ones if there are any."""
    return logits.by_pass.get("clean", next(iter(logits.by_pass.values())))


def descend(
    optimizer: optax.GradientTransformation,
    state: TrainState,
    gradient: Weights,
    rate: Float[Array, ""],
) -> TrainState:
    """Move the weights by minus `rate` times the optimiser's update, and count the step."""
    updates, momentum = optimizer.update(gradient, state.optimizer, state.weights)
    updates = jax.tree.map(lambda u: (-rate * u).astype(u.dtype), updates)
    weights = optax.apply_updates(state.weights, updates)
    return state._replace(step=state.step + 1, weights=weights, optimizer=momentum)


def make_advance(
    step: Step, sample: SampleBatch
) -> Callable[[TrainState, DeviceData, TracedNumbers, int | Array], tuple[TrainState, Metrics]]:
    """Many steps per call: `advance(state, data, settings, num_steps)`, `num_steps` traced.

    Metrics are summed over the steps, so the device is never waited for in between.
    """

    def advance(
        state: TrainState, data: DeviceData, settings: TracedNumbers, num_steps: int | Array
    ) -> tuple[TrainState, Metrics]:
        def body(_: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, total = carry
            state, new = step(state, sample(data, state), settings)
            first_bad = jnp.minimum(total.first_bad_step, new.first_bad_step)
            summed = jax.tree.map(lambda sum_, x: sum_ + x.astype(sum_.dtype), total, new)
            return state, summed._replace(first_bad_step=first_bad)

        state, total = jax.lax.fori_loop(0, num_steps, body, (state, zero_metrics()))
        # A loss tells of the weights before its step; those after the last one are looked at.
        kept = jax.tree.leaves((state.weights, state.statistics))
        is_finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in kept]))
        bad_step = jnp.where(is_finite, NEVER, state.step - 1)
        return state, total._replace(first_bad_step=jnp.minimum(total.first_bad_step, bad_step))

    return advance
