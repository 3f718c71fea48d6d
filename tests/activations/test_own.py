"""Activations of one's own: derivatives by autodiff, curvature by search, names from elsewhere."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax import parse_activation
from rctaf_jax.activations import Activation, find_curvature, register_activation
from rctaf_jax.activations.baselines import BASELINES, Baseline
from rctaf_jax.activations.curvature import Curvature
from rctaf_jax.errors import InputError


@pytest.fixture(autouse=True)
def _names_are_forgotten(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(BASELINES)
    yield
    BASELINES.clear()
    BASELINES.update(before)


KNOWN = [*BASELINES, "rct-af:beta=0,curvature=0.3", "rct-af:beta=1,alpha=400"]
KNOWN += ["rct-af:beta=6,curvature=200"]


@pytest.mark.parametrize("text", KNOWN)
def test_what_is_found_is_what_is_known(text):
    """Of every activation whose curvature is known in closed form, kinks included."""
    known = parse_activation(text)
    found = find_curvature(known)
    if math.isinf(known.max_curvature):
        assert (found.value, found.location) == (math.inf, 0)
        assert "sigma' jumps at 0" in found.note
        return
    assert found.value == pytest.approx(known.max_curvature, rel=1e-11)
    if text != "identity":
        assert abs(found.location) == pytest.approx(abs(known.curvature.location), abs=1e-6)


@pytest.mark.parametrize(
    ("function", "value", "location"),
    [
        (lambda x: 1e-3 * jnp.tanh(1e4 * (x - 3.3)), 1e5 * 4 / (3 * math.sqrt(3)), 3.3),
        (lambda x: jnp.clip(x, -1, 1), math.inf, -1),
        (lambda x: jnp.floor(x + 0.25), math.inf, None),
        (lambda x: x**3, math.inf, None),
        (lambda x: jnp.sin(3 * x) / 9, 1, None),
        (lambda x: jnp.where(x > 2.5, 2.5 + (x - 2.5) * 1.001, x), math.inf, 2.5),
        (lambda x: jnp.maximum(x, 0) ** 2 / 2, 1, None),
    ],
)
def test_functions_of_nobody(function, value, location):
    found = find_curvature(function)
    assert found.value == pytest.approx(value, rel=1e-9)
    if location is not None:
        assert found.location == pytest.approx(location, abs=2e-4)


def test_the_bound_is_said_and_holds():
    found = find_curvature(lambda x: jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(x, 0))
    bound = float(found.note.rpartition(" ")[2])
    assert abs(found.value - 0.25) <= bound < 1e-9


def test_a_derivative_that_is_not_finite_is_a_sentence():
    with pytest.raises(InputError, match=r"a derivative is not finite at x = 7\d\d"):
        find_curvature(jnp.exp)


def test_a_registered_one_is_like_ours():
    register_activation("wave", lambda x: x + jnp.sin(x) / 4, label="Wave")
    wave = parse_activation("Wave")
    assert (wave.text, wave.alpha) == ("wave", None)
    assert wave.max_curvature == pytest.approx(0.25)
    x = jnp.linspace(-3, 3, 11)
    np.testing.assert_allclose(wave.derivative(x, 2), -jnp.sin(x) / 4, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(wave))(x), 1 + jnp.cos(x) / 4, rtol=1e-6)
    assert parse_activation(wave.text) == wave


def test_closed_forms_are_used():
    asked = []

    def slope(x):
        asked.append(1)
        return jnp.cos(x)

    register_activation("sine", jnp.sin, derivatives=[slope], curvature=1.0)
    x = jnp.array([0.3, 2.0])
    np.testing.assert_allclose(parse_activation("sine").derivative(x, 3), -jnp.cos(x), rtol=1e-6)
    assert asked
    assert parse_activation("sine").curvature.note == "as stated"


def test_a_bare_activation_has_a_curvature():
    """Without a name that anybody knows."""
    mine = Activation("mine", lambda x, alpha: jnp.tanh(2 * x), None)
    assert mine.max_curvature == pytest.approx(4 * 4 / (3 * math.sqrt(3)))
    expected = 2 / np.cosh(0.2) ** 2
    np.testing.assert_allclose(mine.derivative(jnp.float32(0.1), 1), expected, rtol=1e-6)


def test_a_place_is_a_name(tmp_path, monkeypatch):
    (tmp_path / "Their_Module.py").write_text(
        "import jax.numpy as jnp\n\ndef Wave(x):\n    return jnp.sin(x)\n\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    activation = parse_activation("Their_Module:Wave")
    assert activation.text == "Their_Module:Wave"
    assert activation.max_curvature == pytest.approx(1)
    assert parse_activation(activation.text) == activation
    with pytest.raises(InputError, match="is an int: it must be a function"):
        parse_activation("Their_Module:number")
    with pytest.raises(InputError, match="Their_Module has no Nothing"):
        parse_activation("Their_Module:Nothing")
    with pytest.raises(InputError, match="there is no module 'nowhere'"):
        parse_activation("nowhere:Wave")
    sys.modules.pop("Their_Module")


def test_an_installed_package_offers_a_name(tmp_path, monkeypatch):
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[rctaf_jax.activations]\nsoftish = theirs_module:softish\nrow = theirs_module:row\n"
    )
    (tmp_path / "theirs_module.py").write_text(
        "import jax\n"
        "from rctaf_jax.activations.baselines import BASELINES\n"
        "softish = jax.nn.soft_sign\n"
        "row = BASELINES['gelu']._replace(label='Row')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert parse_activation("softish").max_curvature == pytest.approx(2)
    assert parse_activation("row").max_curvature == parse_activation("gelu").max_curvature
    sys.modules.pop("theirs_module")


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("Upper", jnp.tanh, "must be in lower case"),
        ("a b", jnp.tanh, "must be in lower case"),
        ("", jnp.tanh, "must be in lower case"),
        ("a=b", jnp.tanh, "must be in lower case"),
        ("gelu", jnp.tanh, "is one of this library's"),
        ("leaky-relu", jnp.tanh, "is one of this library's"),
        ("silu", jnp.tanh, "is one of this library's"),
        ("rct-af", jnp.tanh, "is one of this library's"),
        ("mine", jnp.sum, r"makes \(\) of an array"),
        ("mine", lambda x: x / x.sum(), "another value alone than among others"),
        ("mine", jax.nn.softmax, "must act on each entry"),
        ("mine", lambda x: None, "makes NoneType of an array"),
        ("mine", np.sin, r"cannot be traced by JAX \(TracerArrayConversionError"),
        ("mine", lambda x: jnp.log(x), "is not finite for x"),
        ("mine", lambda x: math.tanh(x), r"fails for an array: TypeError at \w+\.py:\d+"),
    ],
)
def test_what_is_no_activation(name, function, message):
    with pytest.raises(InputError, match=message):
        register_activation(name, function)
    assert name not in BASELINES or name in ("gelu", "silu")


def test_a_stated_curvature_must_be_one():
    with pytest.raises(InputError, match="its curvature is -1"):
        register_activation("mine", jnp.tanh, curvature=-1)
    register_activation("mine", jnp.tanh, curvature=Curvature(5.0, 1.0))
    assert parse_activation("mine").curvature == Curvature(5.0, 1.0)
    assert isinstance(BASELINES["mine"], Baseline)
