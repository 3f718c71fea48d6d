"""What every model of the registry must do, at 1/16 of its width and on 8x8 images."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from rctaf_jax.activations import Activation
from rctaf_jax.models import Model, create

# A name for each kind of block, and its number of activation layers; `test_torch_layouts` compares
# the logits of each published network.
NAMES = {
    "resnet18": 17,
    "resnet50": 49,
    "preact-resnet18": 16,
    "wrn-10-1": 7,
    "dm-wrn-10-1": 7,
    "resnet-mini": 5,
    "mlp-2x64": 2,
}
SHAPE = (8, 6, 3)
# What an affine network (and, in training, BatchNorm) is made of.
LINEAR = {
    *("add", "add_any", "sub", "mul", "div", "neg", "reduce_sum", "dot_general"),
    *("broadcast_in_dim", "reshape", "squeeze", "transpose", "slice", "pad", "concatenate"),
    *("convert_element_type", "conv_general_dilated", "jit", "remat2", "checkpoint"),
}
BATCH_NORM = {"rsqrt", "square", "integer_pow"}


class Case(NamedTuple):
    model: Model
    variables: dict[str, Any]
    x: jax.Array


class Result(NamedTuple):
    inference: jax.Array
    statistics_kept: Any
    training: jax.Array
    statistics_moved: Any


@functools.cache
def case(name):
    model = create(name, num_classes=4, activation="rct-af:beta=1,alpha=3", width=1 / 16)
    x = jax.random.uniform(jax.random.key(1), (8, *SHAPE))
    return Case(model, model.init(jax.random.key(0), SHAPE), x)


@functools.cache
def result(name):
    """Both modes in one program, because compiling takes the time."""
    model, variables, x = case(name)
    both = jax.jit(lambda v: (*model.apply(v, x), *model.apply(v, x, train=True)))
    return Result(*both(variables))


def hessian_vector_product(name):
    """variables -> H params, for the mean square of the training-mode logits."""
    model, _, x = case(name)

    def product(variables):
        def loss(params):
            return jnp.square(model.apply(variables | {"params": params}, x, train=True)[0]).mean()

        params = variables["params"]
        return jax.jvp(jax.grad(loss), (params,), (params,))[1]

    return product


def all_finite(tree):
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_statistics(name):
    model, variables, x = case(name)
    got = result(name)
    for logits in (got.inference, got.training):
        assert logits.shape == (len(x), 4)
        assert logits.dtype == jnp.float32
    assert all_finite(got)
    assert set(variables) == {"params", "batch_stats", "activation"}
    jax.tree.map(np.testing.assert_array_equal, got.statistics_kept, variables["batch_stats"])
    before, after = map(jax.tree.leaves, (variables["batch_stats"], got.statistics_moved))
    assert len(before) == len(after)
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))
    assert model.num_classes == 4
    assert model.width == 1 / 16


@pytest.mark.parametrize("name", ["resnet-mini", "mlp-2x64"])
def test_hessian_vector_product(name):
    """jvp of grad is finite and not zero, with BatchNorm and without."""
    product = jax.jit(hessian_vector_product(name))(case(name).variables)
    assert all_finite(product)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(product["dense"]))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "preact-resnet18", "wrn-10-1"])
def test_hessian_vector_product_traces(name):
    """The deeper networks are made of the same parts; compiling second derivatives takes long."""
    params = case(name).variables["params"]
    product = jax.eval_shape(hessian_vector_product(name), case(name).variables)
    assert jax.tree.map(jnp.shape, product) == jax.tree.map(jnp.shape, params)


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet-mini", "mlp-2x64"])
def test_one_image_eagerly_equals_batch_compiled(name):
    model, variables, x = case(name)
    logits, statistics = model.apply(variables, x[2:3])
    np.testing.assert_allclose(logits, result(name).inference[2:3], rtol=1e-5, atol=1e-5)
    assert statistics is variables["batch_stats"]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("mlp-2x64", "resnet50")])
def test_four_devices_equal_one(name):
    model, variables, x = case(name)
    parallel = jax.pmap(
        functools.partial(model.apply, train=True, axis_name="devices"),
        axis_name="devices",
        in_axes=(None, 0),
    )
    logits, statistics = parallel(variables, x.reshape(4, 2, *SHAPE))
    got = result(name)
    np.testing.assert_allclose(logits.reshape(8, 4), got.training, rtol=1e-5, atol=1e-5)
    for four, one in zip(*map(jax.tree.leaves, (statistics, got.statistics_moved)), strict=True):
        for device in four:
            np.testing.assert_allclose(device, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_has_float32_state_and_logits(name):
    model = create(name, num_classes=4, activation="gelu", width=1 / 16, dtype=jnp.bfloat16)

    def both(key):
        variables = model.init(key, SHAPE)
        return variables, model.apply(variables, jnp.zeros((2, *SHAPE)), train=True)

    leaves = jax.tree.leaves(jax.eval_shape(both, jax.random.key(0)))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jaxprs_in_params(equation.params):
            yield from primitives(inner)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_no_other_nonlinearity(name, train):
    """With the identity as activation only linear primitives remain, and BatchNorm's two."""
    calls = []
    marker = Activation("marker", lambda x, alpha: calls.append(1) or x, None)
    model = create(name, num_classes=4, activation=marker, width=1 / 16)
    variables = jax.eval_shape(lambda k: model.init(k, SHAPE), jax.random.key(0))
    calls.clear()
    traced = jax.make_jaxpr(functools.partial(model.apply, train=train))(
        variables, jax.ShapeDtypeStruct((2, *SHAPE), jnp.float32)
    )
    assert len(calls) == NAMES[name]
    assert set(primitives(traced.jaxpr)) <= LINEAR | BATCH_NORM


@pytest.mark.parametrize("name", NAMES)
def test_identity_makes_it_affine(name):
    model = create(name, num_classes=4, activation="identity", width=1 / 16)
    variables = case(name).variables | {"activation": {}}
    x = case(name).x[:3]

    @jax.jit
    def directional(x, direction):
        return jax.jvp(lambda x: model.apply(variables, x)[0], (x,), (direction,))[1]

    direction = x[:1] - x[1:2]
    first, second = directional(x[1:2], direction), directional(x[2:3], direction)
    assert float(jnp.abs(first).max()) > 0
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-7)
