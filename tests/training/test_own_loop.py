"""The methods' losses in loops of one's own: our models, Linen, NNX, Equinox."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from rctaf_jax.errors import InputError
from rctaf_jax.losses import cross_entropy, jensen_shannon, kl_divergence
from rctaf_jax.models import create, norm_set, with_norm_set
from rctaf_jax.training import (
    METHODS,
    acat_loss,
    dajat_loss,
    dkl_loss,
    make_method,
    mart_loss,
    own_loop,
    pgd_at_loss,
    robust_loss,
    standard_loss,
    trades_loss,
)
from rctaf_jax.training.methods.method import Budget

KEY = jax.random.key(5)
SIZE = 16
EPSILON = 0.05


@pytest.fixture(scope="module")
def images(dataset):
    return jnp.asarray(dataset.train.images[:SIZE], jnp.float32) / 255


@pytest.fixture(scope="module")
def labels(dataset):
    return jnp.asarray(dataset.train.labels[:SIZE])


class Norm(nn.Module):
    """A small network with BatchNorm, as anybody's."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(24)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(4)(nn.tanh(x))


def linen(images):
    module = Norm()
    variables = module.init(jax.random.key(0), images, False)

    def apply(variables, x, train):
        if not train:
            return module.apply(variables, x, False), variables
        logits, moved = module.apply(variables, x, True, mutable=["batch_stats"])
        return logits, {**variables, **moved}

    return apply, variables


class NormNnx(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(64, 24, rngs=rngs)
        self.norm = nnx.BatchNorm(24, rngs=rngs)
        self.last = nnx.Linear(24, 4, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.tanh(self.norm(self.first(x.reshape(len(x), -1)))))


def nnx_network(images):
    graph, state = nnx.split(NormNnx(nnx.Rngs(0)))

    def apply(state, x, train):
        model = nnx.merge(graph, state)
        model.train() if train else model.eval()
        logits = model(x)
        return logits, nnx.state(model)

    return apply, state


def equinox(images):
    network = eqx.nn.MLP(64, 4, 24, 1, activation=jax.nn.tanh, key=jax.random.key(0))
    params, static = eqx.partition(network, eqx.is_inexact_array)

    def apply(params, x, train):
        return jax.vmap(eqx.combine(params, static))(x.reshape(len(x), -1)), params

    return apply, params


def ours(images):
    model = create("resnet-mini", num_classes=4, activation="swish", width=0.25)

    def apply(variables, x, train):
        logits, statistics = model.apply(variables, x, train=train)
        return logits, {**variables, "batch_stats": statistics}

    return apply, model.init(jax.random.key(0), images.shape[1:])


@pytest.mark.parametrize("make", [linen, nnx_network, equinox, ours])
def test_trades_in_a_loop_with_optax(make, images, labels):
    """The README's own example: the loss falls, and the attack's images are in the ball."""
    apply, variables = make(images)
    optimizer = optax.adam(0.01)

    @jax.jit
    def step(variables, state, key):
        def loss(variables):
            return trades_loss(apply, variables, images, labels, key, epsilon=EPSILON, num_steps=2)

        (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(variables)
        updates, state = optimizer.update(gradient, state)
        # The gradient of statistics is 0: what the network has moved stays.
        return optax.apply_updates(aux.variables, updates), state, value, aux

    state, values = optimizer.init(variables), []
    for number in range(12):
        variables, state, value, aux = step(variables, state, jax.random.key(number))
        values.append(float(value))
    assert values[-1] < 0.8 * values[0]
    assert float(jnp.abs(aux.adversarial - images).max()) <= EPSILON + 1e-6
    assert set(aux.logits) == {"clean", "adversarial"}


def test_trades_is_its_formula(images, labels):
    apply, variables = ours(images)
    value, aux = trades_loss(apply, variables, images, labels, KEY, beta=3.0, epsilon=EPSILON)
    keys = jax.random.split(KEY, SIZE)
    budget = Budget("Linf", EPSILON, 0.007 * EPSILON / (8 / 255), 10)
    perturb = make_method("trades", {"beta": 3.0}).perturb
    expected = perturb(keys, lambda x: apply(variables, x, False)[0], images, labels, budget)
    np.testing.assert_array_equal(aux.adversarial, expected)
    clean, moved = apply(variables, images, True)
    adversarial, moved = apply(moved, expected, True)
    loss = cross_entropy(clean, labels).mean() + 3 * kl_divergence(clean, adversarial).mean()
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, aux.variables, moved)


@pytest.mark.parametrize(
    ("loss", "passes"),
    [
        (standard_loss, {"clean"}),
        (pgd_at_loss, {"adversarial"}),
        (trades_loss, {"clean", "adversarial"}),
        (mart_loss, {"clean", "adversarial"}),
        (dkl_loss, {"clean", "adversarial"}),
        (acat_loss, {"clean", "adversarial"}),
    ],
)
def test_every_method_has_one(loss, passes, images, labels):
    apply, variables = equinox(images)

    def value(variables):
        return loss(apply, variables, images, labels, KEY, epsilon=EPSILON, num_steps=2)

    (_, aux), gradient = jax.value_and_grad(value, has_aux=True)(variables)
    assert set(aux.logits) == passes
    norms = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)]
    assert all(np.isfinite(norms))
    assert min(norms) > 0


def test_dkls_table_is_handed_on(images, labels):
    apply, variables = equinox(images)
    settings = {"epsilon": EPSILON, "num_steps": 1}
    _, first = dkl_loss(apply, variables, images, labels, KEY, **settings)
    np.testing.assert_allclose(first.memory["table"], 1 / 4)
    _, second = dkl_loss(
        apply, variables, images, labels, KEY, memory=first.memory, ends_epoch=True, **settings
    )
    table = np.asarray(second.memory["table"])
    np.testing.assert_allclose(table.sum(1), 1, rtol=1e-5)
    assert not np.allclose(table, 1 / 4)


def test_dajat_is_its_formula(images, labels):
    """Three views, the augmented ones with a BatchNorm set of their own."""
    model = create("resnet-mini", num_classes=4, activation="swish", width=0.25)
    variables = model.init(jax.random.key(0), images.shape[1:])
    own = norm_set(variables["params"], variables["batch_stats"])
    both = {"base": variables, "augmented": (own, variables["batch_stats"])}

    def base(both, x, train):
        logits, statistics = model.apply(both["base"], x, train=train)
        return logits, {**both, "base": {**both["base"], "batch_stats": statistics}}

    def augmented(both, x, train):
        (norms, statistics), shared = both["augmented"], both["base"]
        params = with_norm_set(shared["params"], norms)
        seen = {**shared, "params": params, "batch_stats": statistics}
        logits, statistics = model.apply(seen, x, train=train)
        return logits, {**both, "augmented": (norms, statistics)}

    views = (images, images[:, ::-1], 1 - images)
    applies = {"base": base, "augmented": augmented}
    settings = {"epsilon": EPSILON, "step_size": 0.02, "num_steps": 2}
    value, aux = dajat_loss(applies, both, views, labels, KEY, beta=5.0, js_weight=3.0, **settings)
    perturb = make_method("dajat", {"beta": 5.0, "js_weight": 3.0, "label_smoothing": 0.0}).perturb
    clean, divergences, moved = [], [], both
    for number, (apply, x) in enumerate(zip((base, augmented, augmented), views, strict=True)):
        keys = jax.random.split(jax.random.fold_in(KEY, number) if number else KEY, SIZE)
        budget = Budget("Linf", EPSILON, 0.02, 2)
        attacked = perturb(keys, lambda x, a=apply: a(both, x, False)[0], x, labels, budget)
        np.testing.assert_array_equal(aux.adversarial[number], attacked)
        logits, moved = apply(moved, x, True)
        adversarial, moved = apply(moved, attacked, True)
        clean.append(logits)
        divergences.append(
            (cross_entropy(logits, labels) + 5 * kl_divergence(logits, adversarial)).mean()
        )
    expected = sum(divergences) / 3 + 3 * jensen_shannon(clean).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, aux.variables, moved)
    assert [set(logits) for logits in aux.logits] == [{"clean", "adversarial"}] * 3


def test_a_network_without_norms_takes_one_apply(images, labels):
    apply, variables = equinox(images)
    views = (images, images, images)
    value, _ = dajat_loss(apply, variables, views, labels, KEY, epsilon=EPSILON, num_steps=1)
    assert np.isfinite(value)


def test_a_method_of_ones_own(images, labels):
    apply, variables = equinox(images)
    method = make_method("mart", {"weight": 2.0})._replace(name="mine")
    attack = {"epsilon": EPSILON, "step_size": 0.02, "num_steps": 2}
    value, _ = robust_loss(method, apply, variables, images, labels, KEY, **attack)
    expected, _ = mart_loss(apply, variables, images, labels, KEY, weight=2.0, **attack)
    assert value == expected


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("dajat", {}, r"dajat sees 3 views of a batch \(base, .* given are images of 1"),
        ("trades", {"images": [jnp.zeros((SIZE, 64))] * 2}, "given are images of 2"),
        ("mixup", {}, "unknown method 'mixup'"),
        ("trades", {"options": {"weight": 3.0}}, "trades has the options beta; given are beta, w"),
        ("trades", {"norm": "L2"}, "published step sizes are for Linf: give step_size for L2"),
        ("trades", {"norm": "L3", "step_size": 0.1}, "unknown norm 'L3'"),
        ("trades", {"epsilon": -1.0}, "epsilon must be a finite number of at least 0"),
        ("trades", {"images": jnp.zeros((SIZE, 8, 8, 1), jnp.uint8)}, "images are uint8"),
        (
            "trades",
            {"labels": jnp.zeros((SIZE, 1), jnp.int32)},
            r"int32 of shape \(16, 1",
        ),
        ("trades", {"labels": jnp.zeros(SIZE)}, "labels are float32"),
        (make_method("trades", {"beta": 6.0}), {}, "step_size and num_steps must be given"),
    ],
)
def test_wrong_arguments(method, changes, message, images, labels):
    apply, variables = equinox(images)
    data = {"images": images, "labels": labels, "epsilon": EPSILON} | changes
    with pytest.raises(InputError, match=message):
        robust_loss(method, apply, variables, data.pop("images"), data.pop("labels"), KEY, **data)


def test_every_method_has_a_loss_of_its_name():
    functions = {name.removesuffix("_loss").replace("_", "-") for name in vars(own_loop)}
    assert set(METHODS) <= functions
