"""Closed-over arrays as arguments: nothing of them is compiled in, and the values are the same."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rctaf_jax.closed_over import Lifted
from rctaf_jax.eval import autoattack, make_autoattack, pgd_attack
from rctaf_jax.models import create

WIDTH = 64
RNG = np.random.default_rng(0)
A = jnp.asarray(RNG.normal(size=(WIDTH, WIDTH)), jnp.float32) / WIDTH**0.5
N = RNG.normal(size=(WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5


@jax.custom_jvp
def bent(x):
    return jnp.tanh(x)


bent.defjvp(lambda p, t: (bent(p[0]), t[0] * (1 - jnp.tanh(p[0]) ** 2)))


def scanned(x):
    return jax.lax.scan(lambda carry, _: (bent(carry @ A), None), x, length=3)[0]


def looped(x):
    return jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] @ N), (0, x))[1]


def branching(x):
    return jax.lax.cond(x.sum() > 0, lambda: x @ A, lambda: x @ N)


FUNCTIONS = {
    "plain": lambda x: x @ A,
    "numpy": lambda x: x @ N,
    "jit in jit": jax.jit(lambda x: jax.jit(lambda y: y @ A)(x) @ N),
    "same array twice": lambda x: jax.jit(lambda y: y @ A)(x) @ A,
    "remat": jax.checkpoint(lambda x: bent(x @ A) @ N),
    "scan": scanned,
    "branch": branching,
    "vmap": jax.vmap(lambda x: jax.jit(lambda y: A @ y)(x)),
    "of its shape": lambda x: x @ A + np.arange(len(x), dtype=np.float32)[:, None],
}


ROUNDING = {"rtol": 1e-5, "atol": 1e-5}
"""XLA adds up a product with a constant matrix in another order."""


def num_constants(function, *arguments) -> int:
    """Entries of arrays that would be compiled in."""
    found = 0

    def walk(closed):
        nonlocal found
        found += sum(np.size(const) for const in closed.consts if np.ndim(const))
        for equation in closed.jaxpr.eqns:
            for inner in equation.params.values():
                if hasattr(inner, "consts"):
                    walk(inner)

    walk(jax.make_jaxpr(function)(*arguments))
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_is_a_constant_and_values_and_gradients_are_the_same(name):
    function = FUNCTIONS[name]
    lifted = Lifted(lambda _, x: function(x))
    given = lifted.with_arrays((), jnp.ones((1, WIDTH)))
    x = jnp.asarray(RNG.normal(size=(5, WIDTH)), jnp.float32)  # another shape than the first

    def value(given, x):
        return lifted(given, x).sum()

    assert num_constants(lambda x: function(x), x) >= WIDTH**2  # of it alone, the fault
    assert num_constants(jax.grad(value, 1), given, x) <= len(x)
    np.testing.assert_allclose(jax.jit(lifted)(given, x), jax.jit(function)(x), **ROUNDING)
    expected = jax.jit(jax.grad(lambda x: function(x).sum()))(x)
    np.testing.assert_allclose(jax.jit(jax.grad(value, 1))(given, x), expected, **ROUNDING)


def test_a_loop_of_unknown_length():
    lifted = Lifted(lambda _, x: looped(x))
    given = lifted.with_arrays((), jnp.ones((1, WIDTH)))
    x = jnp.ones((2, WIDTH))
    assert num_constants(lifted, given, x) == 0
    np.testing.assert_allclose(jax.jit(lifted)(given, x), jax.jit(looped)(x), **ROUNDING)


def test_other_arrays_give_another_function_without_compiling():
    lifted = Lifted(lambda bias, x: x @ A + bias)
    arrays, _ = lifted.with_arrays(0.0, jnp.ones((1, WIDTH)))
    compiled = jax.jit(lifted)
    x = jnp.ones((2, WIDTH))
    compiled((arrays, 1.0), x)
    np.testing.assert_allclose(compiled(([2 * A], 3.0), x), x @ (2 * A) + 3, rtol=1e-5)
    assert compiled._cache_size() == 1


def test_an_array_that_dies_lends_its_place_to_no_other():
    """Temporary arrays of NumPy, made anew in each trace, at addresses that are used again."""
    lifted = Lifted(lambda _, x: x @ np.full((WIDTH, WIDTH), np.float32(len(x))))
    given = lifted.with_arrays((), jnp.ones((1, WIDTH)))
    for size in range(1, 8):
        x = jnp.ones((size, WIDTH))
        np.testing.assert_array_equal(lifted(given, x), np.full((size, WIDTH), WIDTH * size))


def linen():
    model = nn.Sequential([nn.Conv(4, (3, 3)), nn.silu, lambda x: x.mean((1, 2)), nn.Dense(4)])
    variables = model.init(jax.random.key(0), jnp.ones((1, 6, 6, 3)))
    return jax.jit(lambda x: model.apply(variables, x))


def flax_nnx():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
            self.head = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, x):
            return self.head(nnx.silu(self.norm(self.conv(x))).mean((1, 2)))

    return Net(nnx.Rngs(0))


def ours():
    activation = "rct-af:beta=2,curvature=3"
    model = create("resnet-mini", num_classes=4, activation=activation, width=0.25)
    variables = model.init(jax.random.key(0), (6, 6, 3))
    return lambda x: model.apply(variables, x)[0]


@pytest.mark.parametrize("make", [linen, flax_nnx, ours])
def test_a_networks_weights_are_no_constants(make):
    network = make()
    lifted = Lifted(lambda _, x: network(x))
    x = jnp.asarray(RNG.uniform(size=(3, 6, 6, 3)), jnp.float32)
    given = lifted.with_arrays((), x[:1])
    assert num_constants(lambda x: network(x), x) > 100
    assert num_constants(lifted, given, x) == 0
    np.testing.assert_allclose(jax.jit(lifted)(given, x), jax.jit(network)(x), **ROUNDING)


IMAGES = RNG.uniform(0.3, 0.7, (6, 4, 4, 1)).astype(np.float32)
WEIGHTS = jnp.asarray(RNG.normal(size=(16, 4)), jnp.float32)
LABELS = np.asarray((IMAGES.reshape(6, 16) @ WEIGHTS).argmax(1))


@pytest.mark.parametrize("attack", ["autoattack", "pgd"])
def test_an_attack_compiles_no_weights_and_finds_the_same(attack, monkeypatch):
    """Weights that are closed over, or an argument: the same images, and small programs."""
    sizes, key = [], jax.random.key(1)
    original = Lifted.__call__

    def call(self, given, *rest):
        sizes.append(sum(np.size(array) for array in given[0]))
        return original(self, given, *rest)

    monkeypatch.setattr(Lifted, "__call__", call)

    def network(x):
        return x.reshape(len(x), -1) @ WEIGHTS

    if attack == "pgd":
        closed = pgd_attack(network, IMAGES, LABELS, key, epsilon=0.05, num_steps=3)
        assert closed.adversarial.shape == IMAGES.shape
    else:
        closed = autoattack(network, IMAGES, LABELS, key, epsilon=0.05, attacks="apgd-ce")
        run = make_autoattack(
            lambda weights, x: x.reshape(len(x), -1) @ weights,
            norm="Linf",
            attacks="apgd-ce",
            batch_size=128,
        )
        given = run(WEIGHTS, IMAGES, LABELS, key, 0.05)
        np.testing.assert_array_equal(closed.adversarial, given.adversarial)
        np.testing.assert_array_equal(closed.robust, given.robust)
    assert WEIGHTS.size in sizes
