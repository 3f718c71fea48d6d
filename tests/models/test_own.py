"""Models of one's own: Linen, NNX, Equinox and functions, behind the contract of ours."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rctaf_jax.activations import parse_activation
from rctaf_jax.errors import InputError
from rctaf_jax.models import (
    create,
    equinox_model,
    function_model,
    linen_model,
    load_weights,
    model_kind,
    model_names,
    network_of,
    nnx_model,
    norm_set,
    register_model,
    save_weights,
)
from rctaf_jax.models.own import from_plain, to_plain
from rctaf_jax.models.table import _OWN

SHAPE = (6, 6, 2)
CLASSES = 3
KEY = jax.random.key(3)
ACTIVATION = "rct-af:beta=1,curvature=7"


class Linen(nn.Module):
    num_classes: int
    activation: object

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Conv(4, (3, 3))(x))
        return nn.Dense(self.num_classes)(self.activation(x).mean((1, 2)))


class Plain(nn.Module):
    """Without BatchNorm, and without a word of modes."""

    num_classes: int
    activation: object

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(self.activation(nn.Dense(5)(x.reshape(len(x), -1))))


class Nnx(nnx.Module):
    def __init__(self, image_shape, num_classes, activation, rngs):
        self.layers = nnx.List([nnx.Conv(image_shape[-1], 4, (3, 3), rngs=rngs)])
        self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.head = nnx.Linear(4, num_classes, rngs=rngs)
        self.activation = activation

    def __call__(self, x):
        return self.head(self.activation(self.norm(self.layers[0](x))).mean((1, 2)))


class Equinox(eqx.Module):
    net: eqx.nn.MLP

    def __init__(self, image_shape, num_classes, activation, key):
        self.net = eqx.nn.MLP(
            int(np.prod(image_shape)), num_classes, 5, 1, activation=activation, key=key
        )

    def __call__(self, image):
        return self.net(image.ravel())


def functions(image_shape, num_classes, activation):
    """Weights in a list."""

    def init(key):
        first, second = jax.random.split(key)
        size = int(np.prod(image_shape))
        return {
            "params": [
                jax.random.normal(first, (size, 5)) / 4,
                jax.random.normal(second, (5, num_classes)),
            ]
        }

    def apply(variables, images, train):
        first, second = variables["params"]
        return activation(images.reshape(len(images), -1) @ first) @ second

    return init, apply


MODELS = {
    "linen": linen_model(lambda shape, classes, activation: Linen(classes, activation)),
    "plain": linen_model(lambda shape, classes, activation: Plain(classes, activation)),
    "nnx": nnx_model(Nnx),
    "equinox": equinox_model(Equinox),
    "functions": function_model(functions),
}
WITH_NORM = ("linen", "nnx")


@pytest.fixture(autouse=True)
def names(monkeypatch):
    for name in list(_OWN):
        monkeypatch.delitem(_OWN, name)
    for name, model in MODELS.items():
        monkeypatch.setitem(_OWN, f"their-{name}", model)


@pytest.fixture
def images():
    return jax.random.uniform(KEY, (8, *SHAPE))


def make(name, activation=ACTIVATION, **more):
    model = create(f"their-{name}", num_classes=CLASSES, activation=activation, **more)
    return model, model.init(KEY, SHAPE)


@pytest.mark.parametrize("name", MODELS)
def test_the_contract(name, images):
    model, variables = make(name)
    assert model.kind == model_kind(f"their-{name}") == "own"
    assert set(variables) == {"params", "batch_stats", "activation"}
    logits, same = model.apply(variables, images)
    assert logits.shape == (8, CLASSES)
    assert logits.dtype == jnp.float32
    jax.tree.map(np.testing.assert_array_equal, same, variables["batch_stats"])
    _, moved = model.apply(variables, images, train=True)
    assert jax.tree.structure(moved) == jax.tree.structure(variables["batch_stats"])
    change = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), moved, variables["batch_stats"])
    assert any(map(float, jax.tree.leaves(change))) is (name in WITH_NORM)


@pytest.mark.parametrize("name", MODELS)
def test_alpha_is_data(name, images):
    """One program serves every curvature, and its logits are those of the function itself."""
    model, variables = make(name)
    other = create(f"their-{name}", num_classes=CLASSES, activation="rct-af:beta=1,alpha=3")
    assert other.apply is model.apply
    traces = 0

    @jax.jit
    def logits(variables):
        nonlocal traces
        traces += 1
        return model.apply(variables, images)[0]

    for alpha in (14.0, 3.0):
        variables["activation"]["alpha"] = jnp.float32(alpha)
        fixed = create(
            f"their-{name}", num_classes=CLASSES, activation=f"rct-af:beta=1,alpha={alpha}"
        )
        again = fixed.init(KEY, SHAPE)
        np.testing.assert_array_equal(logits(variables), logits(again))
    assert traces == 1


def test_logits_are_the_modules_own(images):
    function = parse_activation("gelu")
    _, variables = make("linen", "gelu")
    theirs = Linen(CLASSES, function)
    expected = theirs.apply({k: variables[k] for k in ("params", "batch_stats")}, images, False)
    np.testing.assert_allclose(make("linen", "gelu")[0].apply(variables, images)[0], expected)
    model, variables = make("nnx", "gelu")
    network = Nnx(SHAPE, CLASSES, function, nnx.Rngs(KEY))
    network.train()
    np.testing.assert_allclose(
        model.apply(variables, images, train=True)[0], network(images), rtol=1e-6
    )
    moved = model.apply(variables, images, train=True)[1]
    np.testing.assert_allclose(moved["norm"]["mean"], network.norm.mean[...], rtol=1e-6)
    model, variables = make("equinox", "gelu")
    expected = jax.vmap(Equinox(SHAPE, CLASSES, function, KEY))(images)
    np.testing.assert_allclose(model.apply(variables, images)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_derivatives_pass_through(name, images):
    model, variables = make(name)

    def loss(params):
        return model.apply({**variables, "params": params}, images)[0][:, 0].sum()

    gradient = jax.grad(loss)(variables["params"])
    _, product = jax.jvp(jax.grad(loss), (variables["params"],), (gradient,))
    assert any(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(product))


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
@pytest.mark.parametrize("name", MODELS)
def test_weights_out_and_in(name, ending, images, tmp_path):
    model, variables = make(name, mean=0.4, std=0.2)
    _, statistics = model.apply(variables, images, train=True)
    variables["batch_stats"] = statistics
    network = network_of(f"their-{name}", variables, ACTIVATION, {}, num_classes=CLASSES)
    again = load_weights(save_weights(tmp_path / f"weights{ending}", network))
    np.testing.assert_array_equal(again(images), network(images))
    assert again.activation.text == "rct-af:beta=1,alpha=14"
    del _OWN[f"their-{name}"]
    with pytest.raises(InputError, match=f"unknown model 'their-{name}'"):
        load_weights(tmp_path / f"weights{ending}")


def test_several_norm_sets():
    """DAJAT keeps a BatchNorm set for each view: where scale and bias stand beside statistics."""
    for name in ("linen", "nnx"):
        _, variables = make(name)
        (layer,) = norm_set(variables["params"], variables["batch_stats"]).values()
        assert set(layer) == {"scale", "bias"}
    with pytest.raises(InputError, match="has statistics called 'mean', and no scale and bias"):
        norm_set({"w": jnp.ones(2)}, {"mean": jnp.ones(2)})


def test_any_tree_and_back():
    tree = {"a": [jnp.ones(2), (jnp.zeros((1, 3)), {"b": jnp.int32(4)})], "c": None}
    plain = to_plain(tree)
    assert plain["a"]["1"]["1"]["b"] == 4
    back = from_plain(plain, tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert back["a"][1][1]["b"].dtype == jnp.int32
    with pytest.raises(InputError, match=r"a\.0 has nothing, and must have shape \(2,\)"):
        from_plain({"c": 1.0}, tree)
    with pytest.raises(InputError, match=r"a\.0 has shape \(3,\), and must have shape \(2,\)"):
        from_plain({"a": {"0": jnp.ones(3)}}, tree)


def test_bfloat16_within(images):
    """A module's own types stay its own: what is kept is float32, what comes out too."""
    half = linen_model(
        lambda shape, classes, activation: nn.Sequential(
            [
                lambda x: x.reshape(len(x), -1),
                nn.Dense(5, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16),
                activation,
                nn.Dense(classes, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16),
            ]
        )
    )
    register_model("their-half", half)
    model, variables = make("half")
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert model.apply(variables, images)[0].dtype == jnp.float32


class Dropping(nnx.Module):
    def __init__(self, image_shape, num_classes, activation, rngs):
        self.head = nnx.Linear(72, num_classes, rngs=rngs)
        self.drop, self.activation = nnx.Dropout(0.5, rngs=rngs), activation

    def __call__(self, x):
        return self.head(self.drop(self.activation(x.reshape(len(x), -1))))


class Stateful(eqx.Module):
    norm: eqx.nn.BatchNorm

    def __init__(self, image_shape, num_classes, activation, key):
        self.norm = eqx.nn.BatchNorm(2, "batch", mode="ema")


def failing(image_shape, num_classes, activation):
    raise ValueError("out of cheese")


def returning(value):
    return function_model(
        lambda shape, classes, activation: (
            lambda key: {"params": {"w": jnp.ones(())}},
            lambda variables, images, train: value(classes, activation(images)),
        )
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (linen_model(failing), "cannot be built .* ValueError at test_own.py:.*: out of cheese"),
        (nnx_model(Dropping), "draws random numbers .* that is not provided for"),
        (equinox_model(Stateful), "has layers with a state, such as Equinox's BatchNorm"),
        (linen_model(lambda s, c, a: nn.Dense(c)), "logits of shape"),
        (function_model(lambda s, c, a: (lambda key: {"w": 1.0}, None)), "no variables called par"),
        (
            function_model(lambda s, c, a: (lambda key: {"params": {}, "cache": 1.0}, None)),
            "has variables called cache",
        ),
        (returning(lambda classes, x: x), "it must give logits of shape"),
        (returning(lambda classes, x: {"logits": x}), "gives dict for two images"),
        (
            linen_model(lambda s, c, a: nn.Sequential([lambda x: x.mean((1, 2)), nn.Dense(c)])),
            "never calls the activation",
        ),
    ],
)
def test_what_is_not_provided_for_is_a_sentence(model, message):
    register_model("their-odd", model)
    with pytest.raises(InputError, match=rf"model their-odd .*{message}"):
        make("odd")


def test_names():
    register_model("their-own", MODELS["plain"])
    assert "their-own" in model_names()
    for name, message in [
        ("", "lower case"),
        ("A", "lower case"),
        ("a b", "lower case"),
        ("a:b", "without spaces and ':'"),
        ("resnet18", "one of this library's"),
        ("wrn-10-1", "one of this library's"),
    ]:
        with pytest.raises(InputError, match=message):
            register_model(name, MODELS["plain"])
    with pytest.raises(InputError, match="model mine is a Plain: make it one by"):
        register_model("mine", Plain(3, jnp.tanh))
    with pytest.raises(InputError, match=r"or package.module:name of your own"):
        create("nothing", num_classes=3, activation="relu")
    with pytest.raises(InputError, match="is as it was written: width 2 and dtype float32"):
        make("plain", width=2)
    with pytest.raises(InputError, match="dtype bfloat16"):
        make("plain", dtype=jnp.bfloat16)
