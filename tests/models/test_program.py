"""Networks as programs of `jax.export`: the same function, derivatives included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from rctaf_jax.errors import InputError
from rctaf_jax.eval import autoattack, pgd_attack
from rctaf_jax.hessian import hessian_vector_product
from rctaf_jax.losses import cross_entropy
from rctaf_jax.models import Network, create, load_program, network_of, save_program

SHAPE = (6, 6, 2)
KEY = jax.random.key(2)
IMAGES = jax.random.uniform(KEY, (5, *SHAPE))
LABELS = np.arange(5) % 4


def make(name="resnet-mini", activation="rct-af:beta=1,curvature=7", **more):
    width = 0.25 if name == "resnet-mini" else 1.0
    model = create(name, num_classes=4, activation=activation, width=width, **more)
    variables = model.init(KEY, SHAPE)
    return network_of(name, variables, activation, {}, num_classes=4, width=width)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    network = make(mean=0.4, std=0.2)
    path = tmp_path_factory.mktemp("program") / "network.jax"
    return network, load_program(save_program(path, network, image_shape=SHAPE))


def test_the_same_function(pair):
    """For any number of images and any variables, within rounding of another convolution."""
    network, program = pair
    assert jax.tree.structure(program.variables) == jax.tree.structure(network.variables)
    jax.tree.map(np.testing.assert_array_equal, program.variables, network.variables)
    for count in (1, 3, 5):
        found, expected = program(IMAGES[:count]), network(IMAGES[:count])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    other = jax.tree.map(lambda leaf: leaf * 1.1, network.variables)
    np.testing.assert_allclose(
        program.apply(other, IMAGES), network.apply(other, IMAGES), rtol=1e-5, atol=1e-6
    )
    assert program.activation == network.activation
    assert (program.num_classes, program.model, program.is_program) == (4, None, True)
    assert program.facts["program_of"] == "resnet-mini"


def test_the_same_derivatives(pair):
    def loss_of(network):
        def loss(params):
            variables = {**network.variables, "params": params}
            return cross_entropy(network.apply(variables, IMAGES), LABELS).mean()

        return loss

    network, program = pair
    params = network.variables["params"]
    vector = jax.tree.map(jnp.sin, params)
    gradient = jax.grad(loss_of(network))(params)
    product = hessian_vector_product(loss_of(network), params, vector)
    reverse = hessian_vector_product(loss_of(program), params, vector, is_reverse=True)
    for found, expected in (
        (jax.grad(loss_of(program))(params), gradient),
        (reverse, product),
        (hessian_vector_product(loss_of(network), params, vector, is_reverse=True), product),
    ):
        scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
        jax.tree.map(
            lambda a, b, scale=scale: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale),
            found,
            expected,
        )


def test_attacks_break_the_same_images(pair):
    network, program = pair
    labels = np.argmax(network(IMAGES), 1)
    for attack, settings in (
        (autoattack, {"attacks": ["apgd-ce", "fab-t", "square"], "epsilon": 0.02}),
        (pgd_attack, {"epsilon": 0.02, "num_steps": 5}),
    ):
        expected = attack(network, IMAGES, labels, KEY, **settings)
        found = attack(program, IMAGES, labels, KEY, **settings)
        np.testing.assert_array_equal(found.robust, expected.robust)


@pytest.mark.parametrize(("name", "activation"), [("mlp-1x8", "gelu"), ("mlp-2x4", "relu")])
def test_networks_without_statistics(tmp_path, name, activation):
    network = make(name, activation)
    program = load_program(save_program(tmp_path / "a.jax", network, image_shape=SHAPE))
    np.testing.assert_allclose(program(IMAGES), network(IMAGES), rtol=1e-5, atol=1e-6)
    assert program.variables["batch_stats"] == {}


def test_a_program_of_somebody_elses(tmp_path):
    """The bytes of `jax.export` alone, of images alone."""
    network, path = make("mlp-1x8", "gelu"), tmp_path / "theirs.jax"
    (count,) = export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((count, *SHAPE), jnp.float32)
    exported = export.export(jax.jit(lambda x: network(x)))(shape)
    path.write_bytes(exported.serialize(vjp_order=1))
    program = load_program(path)
    np.testing.assert_allclose(program(IMAGES), network(IMAGES), rtol=1e-6)
    labels = np.argmax(network(IMAGES), 1)
    result = pgd_attack(program, IMAGES, labels, KEY, epsilon=0.5)
    assert not result.robust.all()
    path.write_bytes(exported.serialize())
    with pytest.raises(InputError, match=r"has no derivatives, .* serialize\(vjp_order=2\)"):
        load_program(path)
    pair = export.export(jax.jit(lambda v, x: v + x))(jnp.float32(1), shape)
    path.write_bytes(pair.serialize(vjp_order=1))
    with pytest.raises(InputError, match=r"takes 2 arguments, .* must take images of shape"):
        load_program(path)
    by_name = export.export(jax.jit(lambda *, x: 2 * x))(x=shape)
    path.write_bytes(by_name.serialize(vjp_order=1))
    with pytest.raises(InputError, match="takes 0 arguments"):
        load_program(path)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "program", "shape", "about", "missing"])
def test_damage_is_a_sentence(tmp_path, damage):
    path = tmp_path / "network.jax"
    save_program(path, make("mlp-1x8", "gelu"), image_shape=SHAPE)
    if damage in ("empty", "text"):
        path.write_bytes({"empty": b"", "text": b"hello"}[damage])
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        arrays = dict(np.load(path))
        name = next(name for name in arrays if name.endswith("kernel"))
        change = {
            "program": {"program": arrays["program"][:100]},
            "shape": {name: arrays[name][:-1]},
            "about": {"about": np.asarray("[")},
            "missing": {},
        }[damage]
        if damage == "missing":
            del arrays[name]
        with path.open("wb") as file:
            np.savez(file, **(arrays | change))
    with pytest.raises(InputError, match=r"network\.jax"):
        load_program(path)


def test_what_cannot_be_written_is_a_sentence(tmp_path):
    network = make("mlp-1x8", "gelu")
    with pytest.raises(InputError, match=r"does not end in \.jax"):
        save_program(tmp_path / "a.npz", network, image_shape=SHAPE)
    with pytest.raises(InputError, match="the variables are a list"):
        save_program(tmp_path / "a.jax", network._replace(variables=[1]), image_shape=SHAPE)
    counting = Network(lambda v, x: x.reshape(len(x), -1)[:, :4], {})
    with pytest.raises(InputError, match=r"take x\.shape\[0\] where it says len\(x\)"):
        save_program(tmp_path / "a.jax", counting, image_shape=SHAPE)
    assert not list(tmp_path.iterdir())
