import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.models import create, model_kind, model_names

SHAPE = (8, 8, 1)


def mini(activation="rct-af:beta=1,alpha=3", **settings):
    return create(
        "resnet-mini", **{"num_classes": 3, "width": 1 / 8, **settings}, activation=activation
    )


def test_sharpness_is_data():
    """Models that differ in alpha share `apply`, and one compiled program serves all."""
    images = jnp.ones((2, *SHAPE))
    outputs = []
    apply = jax.jit(mini().apply)
    for alpha in (3, 5.5, 400):
        model = mini(f"rct-af:beta=1,alpha={alpha}")
        assert model.apply is mini().apply
        variables = model.init(jax.random.key(0), SHAPE)
        assert variables["activation"]["alpha"].dtype == jnp.float32
        outputs.append(apply(variables, images)[0])
    assert apply._cache_size() == 1
    assert np.all(outputs[0] != outputs[1])


def test_equal_calls_give_equal_models():
    assert mini() == mini()
    assert mini(width=1).apply is mini(width=1.0).apply
    assert mini().apply is not mini("rct-af:beta=2,alpha=3").apply
    assert mini().apply is not mini(dtype=jnp.bfloat16).apply


def test_facts():
    model = mini()
    assert (model.name, model.kind) == ("resnet-mini", "resnet")
    assert model.activation_name == "rct-af:beta=1"
    assert (model.num_classes, model.width) == (3, 1 / 8)


def test_baselines_have_no_sharpness():
    variables = mini("gelu").init(jax.random.key(0), SHAPE)
    assert variables["activation"] == {}
    assert (
        create("mlp-1x4", num_classes=2, activation="relu").init(jax.random.key(0), SHAPE)[
            "batch_stats"
        ]
        == {}
    )


def test_sharpness_can_be_learned():
    """The gradient in alpha, through the recomputation, is the finite difference."""
    model = mini()
    variables = model.init(jax.random.key(0), SHAPE)
    x = jax.random.uniform(jax.random.key(1), (2, *SHAPE))

    @jax.jit
    def loss(alpha):
        return jnp.square(model.apply(variables | {"activation": {"alpha": alpha}}, x)[0]).sum()

    difference = (loss(jnp.float32(3.1)) - loss(jnp.float32(2.9))) / 0.2
    np.testing.assert_allclose(jax.grad(loss)(jnp.float32(3.0)), difference, rtol=2e-2)


def test_members_can_be_stacked():
    """vmap over variables, alpha included, equals one member after the other."""
    models = [mini(f"rct-af:beta=1,alpha={alpha}") for alpha in (1, 9)]
    members = [m.init(jax.random.key(i), SHAPE) for i, m in enumerate(models)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    x = jax.random.uniform(jax.random.key(1), (2, *SHAPE))
    together = jax.jit(jax.vmap(lambda v: models[0].apply(v, x)[0]))(stacked)
    one = jax.jit(models[0].apply)
    for member, logits in zip(members, together, strict=True):
        alone = one(member, x)[0]
        np.testing.assert_allclose(logits, alone, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_close_to_float32():
    variables = mini().init(jax.random.key(0), SHAPE)
    x = jax.random.uniform(jax.random.key(1), (4, *SHAPE))
    single, half = (
        jax.jit(mini(dtype=dtype).apply)(variables, x)[0] for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert jnp.linalg.norm(half - single) < 0.03 * jnp.linalg.norm(single)


def test_float64_throughout():
    with jax.enable_x64(True):
        model = mini(dtype=jnp.float64)
        variables = model.init(jax.random.key(0), SHAPE)
        shapes = jax.eval_shape(
            lambda v: model.apply(v, jnp.ones((2, *SHAPE)), train=True), variables
        )
    assert {leaf.dtype.name for leaf in jax.tree.leaves((variables, shapes))} == {"float64"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "resnet19"}, "unknown model 'resnet19': choose one of resnet18"),
        ({"name": "wrn-28"}, "unknown model"),
        ({"name": "mlp-2x0"}, "unknown model"),
        ({"name": "wrn-29-10"}, "depth 29"),
        ({"name": "wrn-4-1"}, "depth 4"),
        ({"name": "wrn-10-0"}, "widening factor 0"),
        ({"width": 1 / 64}, "must be more than 0.0312"),
        ({"width": -1}, "width is -1"),
        ({"width": float("nan")}, "width is nan"),
        ({"num_classes": 1}, "num_classes is 1"),
        ({"num_classes": 2.5}, "num_classes is 2.5"),
        ({"activation": "rule"}, "unknown activation"),
        ({"dtype": jnp.int32}, "dtype is int32"),
        ({"dtype": jnp.float64}, "jax_enable_x64"),
    ],
)
def test_refuses(settings, words):
    valid = {"name": "resnet-mini", "num_classes": 3, "activation": "relu"}
    with pytest.raises(InputError, match=words):
        create(**valid | settings)


@pytest.mark.parametrize("images", [jnp.zeros((8, 8, 1)), jnp.zeros((1, 8, 8, 1), jnp.uint8)])
def test_refuses_other_images(images):
    model = mini()
    variables = model.init(jax.random.key(0), SHAPE)
    with pytest.raises(InputError, match="images are"):
        model.apply(variables, images)


def test_refuses_missing_sharpness():
    variables = mini("relu").init(jax.random.key(0), SHAPE)
    with pytest.raises(InputError, match="needs alpha"):
        mini().apply(variables, jnp.zeros((1, *SHAPE)))


def test_names_have_a_form_for_each_kind():
    assert "wrn-DEPTH-FACTOR" in model_names()
    assert "mlp-DEPTHxWIDTH" in model_names()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet18", "resnet"),
        ("preact-resnet18", "preact-resnet"),
        ("wrn-34-10", "wide-resnet"),
        ("mlp-2x64", "mlp"),
    ],
)
def test_kind(name, kind):
    assert model_kind(name) == kind
    with pytest.raises(InputError, match=f"unknown model 'my-{name}'"):
        model_kind(f"my-{name}")
