"""Whole steps of DAJAT and DKL, with adversarial weights and weight averaging, in float64.

Each is computed a second time as the papers write it, plainly and out of nothing but the network,
the batch and the random draws.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.activations import parse_activation
from rctaf_jax.training.augmentation import view_augmentations
from rctaf_jax.training.batches import make_sample
from rctaf_jax.training.methods.method import AUGMENTED, BASE
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.trainer import device_data, make_trainer

ACTIVATION = parse_activation("rct-af:beta=1,curvature=7")
STEPS_BEFORE = 14
"""The step after them is the last of the third and last epoch of five."""


@pytest.fixture(scope="module", params=["dajat", "dkl"])
def taken(request, config, dataset):
    """Configuration, trainer, the state before the last step, after it, and the batch."""
    stated = dataclasses.replace(
        config,
        method=request.param,
        method_options=(),
        budget=None,
        attack_steps=None,
        step_size=None,
        schedule=None,
        awp=0.02,
        awp_epoch=3,
        averaging=0.75,
        dtype="float64",
    )
    with jax.enable_x64(True):
        resolved = resolve(stated, dataset)
        trainer = make_trainer(resolved, ACTIVATION, dataset)
        data = device_data(dataset)
        advance = jax.jit(trainer.advance)
        start = trainer.initial(0, ACTIVATION.alpha)
        before, _ = advance(start, data, trainer.settings, STEPS_BEFORE)
        after, metrics = advance(before, data, trainer.settings, 1)
        batch = make_sample(batch_size=stated.batch_size)(data, before)
        yield resolved.config, trainer, before, after, metrics, batch


def log_softmax(z):
    return z - jnp.log(jnp.sum(jnp.exp(z), -1, keepdims=True))


def divergence(z, other):
    return jnp.sum(jnp.exp(log_softmax(z)) * (log_softmax(z) - log_softmax(other)), -1)


def cross_entropy(z, labels):
    return -log_softmax(z)[jnp.arange(len(labels)), labels]


def in_norm(path):
    return any("norm" in str(key) for key in path)


def network(trainer, state, params, scale_and_bias, statistics):
    """Variables whose normalisation layers have the given scale and bias."""
    replacement = dict(jax.tree_util.tree_leaves_with_path(scale_and_bias))
    swapped = jax.tree_util.tree_map_with_path(
        lambda path, leaf: replacement.get(path, leaf) if in_norm(path) else leaf, params
    )
    return {"params": swapped, "batch_stats": statistics, "activation": state.activation}


def attacked(predict, x, noise, epsilon, size, steps):
    """Linf ascent of KL(p(x) || p(x')) by signs, ball and box after each step."""
    reference = predict(x)
    adversarial = x + 0.001 * noise
    slope = jax.jit(jax.grad(lambda v: divergence(reference, predict(v)).sum()))
    for _ in range(steps):
        adversarial = adversarial + size * jnp.sign(slope(adversarial))
        adversarial = jnp.clip(jnp.clip(adversarial, x - epsilon, x + epsilon), 0, 1)
    return adversarial


def plain_views(resolved, trainer, before, batch):
    """(name, clean, adversarial) of each view; the last of three epochs has the whole ball."""
    names = (BASE,) if resolved.method == "dkl" else (BASE, AUGMENTED, AUGMENTED)
    augmentations = view_augmentations(resolved.augmentation)
    views = []
    for number, name in enumerate(names):
        clean, noise = [], []
        for key, image in zip(batch.keys, batch.images, strict=True):
            augment_key, attack_key = jax.random.split(
                jax.random.fold_in(key, number) if number else key
            )
            clean.append(augmentations[name](augment_key, image))
            noise.append(jax.random.normal(attack_key, image.shape, jnp.float64))
        x = jnp.stack(clean).astype(jnp.float64) / 255
        scale_and_bias = before.weights.norms.get(name, before.params)
        variables = network(trainer, before, before.params, scale_and_bias, before.statistics[name])

        def predict(v, variables=variables):
            return trainer.model.apply(variables, v)[0]

        # The third quarter of the high budget: 4 steps of half the radius.
        adversarial = attacked(
            predict, x, jnp.stack(noise), resolved.epsilon, resolved.epsilon / 2, 4
        )
        views.append((name, x, adversarial))
    return views


def plain_loss(resolved, trainer, state, weights, views, labels):
    """The papers' losses, the logits of the base view's clean images, and the statistics."""
    params, norms = weights
    statistics, logits = dict(state.statistics), []
    for name, clean, adversarial in views:
        pair = []
        for images in (clean, adversarial):
            variables = network(trainer, state, params, norms.get(name, params), statistics[name])
            answer, statistics[name] = trainer.model.apply(variables, images, train=True)
            pair.append(answer)
        logits.append(pair)
    if resolved.method == "dkl":
        z, other = logits[0]
        held = jax.lax.stop_gradient(jnp.exp(log_softmax(z)))
        soft = -jnp.sum(held * log_softmax(other), -1)
        gaps = (z - other)[:, :, None] - (z - other)[:, None, :]
        s = state.memory["table"][labels]
        square = (s[:, :, None] * s[:, None, :] * gaps**2).sum((1, 2)) / 4
        loss = jnp.mean(cross_entropy(z, labels) + 4 * soft + 20 * square)
    else:
        loss = sum(
            jnp.mean(cross_entropy(z, labels) + 11 * divergence(z, other)) for z, other in logits
        ) / len(logits)
        if len(logits) > 1:
            p = jnp.stack([jnp.exp(log_softmax(z)) for z, _ in logits])
            mixture = jnp.clip(p.mean(0), 1e-7, 1)
            loss = loss + 2 * jnp.mean(jnp.sum(p * (jnp.log(p) - jnp.log(mixture)), -1))
    return loss, (statistics, logits[0][0])


def test_a_step_equals_its_plain_computation(taken):
    resolved, trainer, before, after, metrics, batch = taken
    with jax.enable_x64(True):
        views = plain_views(resolved, trainer, before, batch)
        weights = (before.params, before.weights.norms)

        def of_base(params):
            inputs = (params, weights[1])
            return plain_loss(resolved, trainer, before, inputs, views[:1], batch.labels)[0]

        ascent = jax.jit(jax.grad(of_base))(before.params)
        moved = jax.tree.map(
            lambda w, v: w + 0.02 * jnp.sqrt((w**2).sum() / (v**2).sum()) * v if w.ndim > 1 else w,
            before.params,
            ascent,
        )

        def of_all(inputs):
            return plain_loss(resolved, trainer, before, inputs, views, batch.labels)

        (loss, (statistics, logits)), gradient = jax.jit(jax.value_and_grad(of_all, has_aux=True))(
            (moved, weights[1])
        )
        np.testing.assert_allclose(metrics.loss, loss, rtol=1e-12)
        check(after.statistics, statistics)
        angle = {"dajat": 2 / 3, "dkl": 3 / 4}[resolved.method]
        rate = resolved.learning_rate * (1 + np.cos(np.pi * angle)) / 2
        momentum = jax.tree.map(
            lambda m, g, w: 0.9 * m + g + resolved.weight_decay * w,
            tuple(before.optimizer[1].trace),
            gradient,
            weights,
        )
        expected = jax.tree.map(lambda w, m: w - rate * m, weights, momentum)
        check(tuple(after.weights), expected)
        current = {"params": after.params, "batch_stats": after.batch_stats}
        average = jax.tree.map(lambda a, c: 0.75 * a + 0.25 * c, before.averaged, current)
        check(after.averaged, average)
        if resolved.method == "dkl":
            check_table(before, after, logits, batch.labels)


def check(got, want):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


def check_table(before, after, logits, labels):
    sums = np.array(before.memory["sums"])
    for z, label in zip(np.asarray(jnp.exp(log_softmax(logits / 4))), labels, strict=True):
        sums[label] += z
    assert sums.sum() == pytest.approx(40)  # every example of the epoch, once
    np.testing.assert_allclose(after.memory["table"], sums / sums.sum(1, keepdims=True), rtol=1e-10)
    np.testing.assert_array_equal(after.memory["sums"], 0)


def test_the_wrappers_wait_for_their_epochs(taken, dataset):
    """Before its epoch the average is the weights, and the perturbation's size changes nothing."""
    _, trainer, *_ = taken
    with jax.enable_x64(True):
        advance, data = jax.jit(trainer.advance), device_data(dataset)
        start = trainer.initial(1, ACTIVATION.alpha)
        early, _ = advance(start, data, trainer.settings, 10)
        check(early.averaged["params"], early.params)
        check(early.averaged["batch_stats"], early.batch_stats)
        larger = trainer.settings._replace(awp=trainer.settings.awp * 3)
        check(advance(start, data, larger, 10)[0], early)
        late, _ = advance(early, data, trainer.settings, 1)
        assert not np.allclose(
            late.averaged["params"]["dense"]["bias"], late.params["dense"]["bias"]
        )
        other, _ = advance(early, data, larger, 1)
        assert not np.allclose(other.params["dense"]["kernel"], late.params["dense"]["kernel"])
