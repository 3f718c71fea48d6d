import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax import parallel
from rctaf_jax.activations import parse_activation
from rctaf_jax.losses import cross_entropy, kl_divergence
from rctaf_jax.training.augmentation import AUGMENTATIONS
from rctaf_jax.training.augmentation.named import PADDING
from rctaf_jax.training.batches import DeviceData, make_sample
from rctaf_jax.training.methods.method import Budget
from rctaf_jax.training.methods.registry import METHODS
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.state import sgd
from rctaf_jax.training.step import NEVER, TracedNumbers
from rctaf_jax.training.trainer import device_data, make_trainer

SWISH = parse_activation("rct-af:beta=1,curvature=7")


def assert_trees_close(got, want, tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def trainer(config, dataset):
    return make_trainer(resolve(config, dataset), SWISH, dataset)


@pytest.fixture(scope="module")
def advance(trainer):
    return jax.jit(trainer.advance)


@pytest.mark.parametrize("method", METHODS)
def test_four_devices_equal_one(config, dataset, method):
    """In float64: signs of gradients make float32 rounding grow tenfold and more with each step."""
    left_out = dict.fromkeys(("budget", "attack_steps", "step_size", "awp", "averaging"))
    config = dataclasses.replace(
        config, method=method, method_options=(), dtype="float64", **left_out
    )
    states = []
    with jax.enable_x64(True):
        training = resolve(config, dataset)
        for count in (1, 4):
            devices = jax.local_devices()[:count]
            trainer = make_trainer(training, SWISH, dataset, axis_name=parallel.AXIS)
            advance = parallel.data_parallel(
                trainer.advance, devices, num_arguments=4, shared=(1, 2, 3)
            )
            state = parallel.replicate(trainer.initial(0, SWISH.alpha), devices)
            state, metrics = advance(state, device_data(dataset), trainer.settings, 5)
            for leaf in jax.tree.leaves(state):
                np.testing.assert_array_equal(leaf[0], leaf[-1])
            states.append((parallel.first(state), parallel.first(metrics)))
    assert states[0][0].step == 5
    assert states[0][0].params["dense"]["bias"].dtype == np.float64
    assert_trees_close(states[0], states[1], 1e-5)


def test_a_step_by_hand(config, dataset, trainer, advance):
    """TRADES, coupled weight decay, momentum and cosine, recomputed plainly in float64."""
    data, settings = device_data(dataset), trainer.settings
    before, _ = advance(trainer.initial(0, SWISH.alpha), data, settings, 3)
    after, metrics = advance(before, data, settings, 1)
    batch = make_sample(batch_size=config.batch_size)(data, before)
    keys = jax.vmap(jax.random.split)(batch.keys)
    images = jax.vmap(AUGMENTATIONS["crop-flip"])(keys[:, 0], batch.images) / 255
    attack = METHODS["trades"].make(beta=6.0).perturb
    budget = ("Linf", config.epsilon, config.step_size, config.attack_steps)

    def predict(x):
        return trainer.model.apply(before.variables, x)[0]

    adversarial = jax.jit(lambda x: attack(keys[:, 1], predict, x, batch.labels, Budget(*budget)))(
        images
    )

    def loss(params):
        variables = {**before.variables, "params": params}
        clean, stats = trainer.model.apply(variables, images, train=True)
        variables = {**variables, "batch_stats": stats}
        hard, stats = trainer.model.apply(variables, adversarial, train=True)
        robust = kl_divergence(clean, hard).mean()
        return cross_entropy(clean, batch.labels).mean() + 6 * robust, stats

    (value, stats), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(before.params)
    rate = config.learning_rate * (1 + np.cos(np.pi * 3 / trainer.num_steps)) / 2
    momentum = jax.tree.map(
        lambda m, g, w: 0.9 * m + g + config.weight_decay * w,
        before.optimizer[1].trace.params,
        gradient,
        before.params,
    )
    params = jax.tree.map(lambda w, m: w - rate * m, before.params, momentum)
    np.testing.assert_allclose(metrics.loss, value, rtol=1e-5)
    assert_trees_close(after.params, params, 1e-5)
    assert_trees_close(after.batch_stats, stats, 1e-5)
    assert_trees_close(after.optimizer[1].trace.params, momentum, 1e-4)
    assert after.activation["alpha"] == SWISH.alpha


def test_sgd_is_pytorchs():
    """Weight decay inside the momentum, no dampening: two steps by hand."""
    optimizer = sgd(0.5)
    params = {"w": jnp.array(2.0)}
    state = optimizer.init(params)
    first, state = optimizer.update({"w": jnp.array(1.0)}, state, params)
    second, _ = optimizer.update({"w": jnp.array(1.0)}, state, params)
    assert (first["w"], second["w"]) == (2.0, pytest.approx(0.9 * 2 + 2.0))


def test_many_steps_in_one_call_equal_one_by_one(trainer, dataset, advance):
    data = device_data(dataset)
    together, total = advance(trainer.initial(1, 3.0), data, trainer.settings, 7)
    state, losses = trainer.initial(1, 3.0), 0.0
    for count in (1, 4, 2):
        state, metrics = advance(state, data, trainer.settings, count)
        losses += metrics.loss
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(together), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(total.loss, losses, rtol=1e-6)
    assert (total.num_steps, total.first_bad_step) == (7, NEVER)


def test_alpha_seed_and_settings_never_recompile(trainer, dataset):
    compiled = jax.jit(trainer.advance)
    data = device_data(dataset)
    for number, alpha in enumerate((0.5, 3.0, 40.0)):
        settings = jax.tree.map(lambda leaf, n=number: leaf * (1 + n), trainer.settings)
        compiled(trainer.initial(number, alpha), data, settings, number + 1)
    assert compiled._cache_size() == 1


@pytest.mark.parametrize("method", METHODS)
def test_no_method_is_traced_again(config, dataset, method):
    """For another alpha, seed, epoch, or other traced settings."""
    left_out = dict.fromkeys(("budget", "attack_steps", "step_size", "awp", "averaging"))
    stated = dataclasses.replace(config, method=method, method_options=(), **left_out)
    trainer, traces = make_trainer(resolve(stated, dataset), SWISH, dataset), []

    @jax.jit
    def advance(*arguments):
        traces.append(1)
        return trainer.advance(*arguments)

    data, settings = device_data(dataset), trainer.settings
    jax.eval_shape(advance, trainer.initial(0, 14.0), data, settings, jnp.int32(1))
    others = TracedNumbers(*(jnp.asarray(0.5 * value, value.dtype) for value in settings))
    late = trainer.initial(1, 3.0)._replace(step=jnp.int32(37))
    jax.eval_shape(advance, late, data, others, jnp.int32(5))
    assert len(traces) == 1


def test_weights_at_step_0_depend_on_the_seed_alone(config, dataset):
    training = resolve(config, dataset)
    relu = make_trainer(training, parse_activation("relu"), dataset).initial(0, None)
    swish = make_trainer(training, SWISH, dataset)
    assert_trees_close(relu.params, swish.initial(0, 14.0).params, 0)
    different = jax.tree.leaves(swish.initial(1, 14.0).params)
    same = [
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(relu.params), different, strict=True)
    ]
    assert not all(same)


def test_a_loss_that_is_not_finite_names_its_first_step(trainer, dataset, advance):
    state = trainer.initial(0, 3.0)
    data = device_data(dataset)
    state, _ = advance(state, data, trainer.settings, 2)
    infinite = trainer.settings._replace(learning_rate=jnp.float32(jnp.inf))
    state, metrics = advance(state, data, infinite, 1)
    assert np.isfinite(metrics.loss)
    assert metrics.first_bad_step == 2  # the loss was of the weights before; they are gone now
    _, metrics = advance(state, data, trainer.settings, 3)
    assert metrics.first_bad_step == 3


@pytest.mark.parametrize(("num_examples", "batch_size"), [(10, 4), (7, 7), (5, 1)])
def test_an_epoch_visits_examples_once(trainer, num_examples, batch_size):
    data = DeviceData(jnp.zeros((num_examples, 1, 1, 1), jnp.uint8), jnp.arange(num_examples))
    sample = jax.jit(make_sample(batch_size=batch_size))
    state = trainer.initial(0, 1.0)
    per_epoch = num_examples // batch_size
    epochs = [
        np.concatenate(
            [
                sample(data, state._replace(step=jnp.int32(epoch * per_epoch + i))).labels
                for i in range(per_epoch)
            ]
        )
        for epoch in range(4)
    ]
    for seen in epochs:
        assert len(set(seen.tolist())) == per_epoch * batch_size
    assert num_examples == 5 or len({tuple(seen) for seen in epochs}) == 4


def test_crop_flip_gives_every_window_and_both_mirrors():
    image = jnp.arange(1, 10, dtype=jnp.uint8).reshape(3, 3, 1)
    keys = jax.random.split(jax.random.key(0), 4000)
    got = np.asarray(jax.vmap(AUGMENTATIONS["crop-flip"], (0, None))(keys, image))[..., 0]
    padded = np.pad(np.asarray(image)[..., 0], PADDING)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(-1, 3, 3)
    allowed = {w.tobytes() for w in windows} | {w[:, ::-1].tobytes() for w in windows}
    assert {w.tobytes() for w in got} == allowed
    # The whole image is one window of 81, mirrored in half of the cases.
    whole = np.mean([np.array_equal(w, image[..., 0]) for w in got])
    assert abs(whole - 1 / 162) < 4 * np.sqrt(1 / 162 / 4000)
    assert got.dtype == np.uint8


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_state(config, dataset, trainer, advance):
    """Weights and statistics stay in float32; five steps stay near those of float32."""
    stated = dataclasses.replace(config, dtype="bfloat16")
    half = make_trainer(resolve(stated, dataset), SWISH, dataset)
    data, start = device_data(dataset), half.initial(0, SWISH.alpha)
    assert_trees_close(start, trainer.initial(0, SWISH.alpha), 0)
    state, metrics = jax.jit(half.advance)(start, data, half.settings, 5)
    exact, exact_metrics = advance(start, data, trainer.settings, 5)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))}
    assert dtypes == {np.dtype(np.float32)}
    np.testing.assert_allclose(metrics.loss, exact_metrics.loss, rtol=0.05)
    assert not np.array_equal(state.params["dense"]["kernel"], exact.params["dense"]["kernel"])
