"""Sharpness against closed forms of quadratics, and Kwon's invariance."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.hessian import (
    adaptive_size,
    keskar_sharpness,
    keskar_size,
    plain_size,
    sam_sharpness,
)

SQUARE = np.random.default_rng(0).normal(size=(6, 6))
HESSIAN = SQUARE @ SQUARE.T
CENTRE = np.random.default_rng(1).normal(size=6)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def loss(w: dict[str, jax.Array]) -> jax.Array:
    flat = jnp.concatenate([w["a"].ravel(), w["b"]])
    return flat @ jnp.asarray(HESSIAN) @ flat / 2


def params() -> dict[str, jax.Array]:
    return {"a": jnp.asarray(CENTRE[:4].reshape(2, 2)), "b": jnp.asarray(CENTRE[4:])}


def flat(tree: dict[str, jax.Array]) -> np.ndarray:
    return np.concatenate([np.ravel(tree["a"]), tree["b"]])


SIZES = {"plain": plain_size, "adaptive": adaptive_size, "keskar": keskar_size}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_one_step_is_the_papers_formula(norm: str, size: str) -> None:
    scale = {"plain": np.ones(6), "adaptive": np.abs(CENTRE), "keskar": 1 + np.abs(CENTRE)}[size]
    gradient = HESSIAN @ CENTRE
    if norm == "L2":
        step = 0.1 * scale**2 * gradient / np.linalg.norm(scale * gradient)
    else:
        step = 0.1 * scale * np.sign(gradient)
    found = sam_sharpness(loss, params(), rho=0.1, norm=norm, size=SIZES[size])
    np.testing.assert_allclose(flat(found.perturbation), step, rtol=1e-12)
    assert found.first_order == pytest.approx(gradient @ step)
    assert found.growth == pytest.approx(gradient @ step + step @ HESSIAN @ step / 2)
    assert found.loss == pytest.approx(CENTRE @ HESSIAN @ CENTRE / 2)
    assert found.num_gradients == 1
    assert "to first order" in found.summary()


def test_ascent_finds_the_maximum_in_both_norms() -> None:
    """A convex loss is largest at a corner of the box; in L2 the secular equation has it."""
    corners = np.array(np.meshgrid(*[[-0.5, 0.5]] * 6)).reshape(6, -1).T
    best = max(c @ HESSIAN @ CENTRE + c @ HESSIAN @ c / 2 for c in corners)
    found = sam_sharpness(loss, params(), rho=0.5, norm="Linf", num_steps=40)
    assert found.growth == pytest.approx(best, rel=1e-9)
    values, basis = np.linalg.eigh(HESSIAN)
    slopes = basis.T @ HESSIAN @ CENTRE
    low, high = values[-1], values[-1] + 1e4
    for _ in range(200):
        middle = (low + high) / 2
        is_long = np.linalg.norm(slopes / (middle - values)) > 0.5
        low, high = (middle, high) if is_long else (low, middle)
    step = slopes / (high - values)
    best = slopes @ step + step @ (values * step) / 2
    found = sam_sharpness(loss, params(), rho=0.5, num_steps=60)
    assert found.growth == pytest.approx(best, rel=1e-3)
    assert found.growth <= best * (1 + 1e-9)
    one = sam_sharpness(loss, params(), rho=0.5)
    assert one.growth < found.growth
    assert np.linalg.norm(flat(found.perturbation)) <= 0.5 + 1e-12


def test_only_the_adaptive_form_is_invariant_to_rescaling() -> None:
    rng = np.random.default_rng(2)
    x, y = jnp.asarray(rng.normal(size=(20, 3))), jnp.asarray(rng.normal(size=20))
    first, second = jnp.asarray(rng.normal(size=(3, 4))), jnp.asarray(rng.normal(size=4))

    def net_loss(w: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.mean((jax.nn.relu(x @ w[0]) @ w[1] - y) ** 2)

    def grown(factor: float, size: str, norm: str) -> float:
        scaled = (first * factor, second / factor)
        return sam_sharpness(net_loss, scaled, rho=0.05, norm=norm, size=SIZES[size]).growth

    for norm in ("L2", "Linf"):
        assert grown(1.0, "adaptive", norm) == pytest.approx(grown(8.0, "adaptive", norm))
        assert grown(1.0, "plain", norm) < 0.9 * grown(8.0, "plain", norm)


def test_keskars_measure_by_hand() -> None:
    """Of w^2 at 1 in |d| <= 2 epsilon: 100 ((1 + 2 epsilon)^2 - 1) / 2."""
    assert keskar_sharpness(lambda w: w**2, 1.0, epsilon=1e-3) == pytest.approx(
        50 * ((1 + 2e-3) ** 2 - 1)
    )


def test_a_minimum_and_a_peak() -> None:
    """No gradient, no step; and where every step goes down, none is taken."""
    flat_point = sam_sharpness(lambda w: jnp.sum(w**2), jnp.zeros(3), rho=1.0, num_steps=3)
    assert (flat_point.first_order, flat_point.growth) == (0, 0)
    peak = sam_sharpness(lambda w: -jnp.sum(w**2), jnp.full(3, 1e-3), rho=1.0)
    assert peak.growth == 0
    assert not np.any(peak.perturbation)


def test_a_loss_that_leaves_every_scale() -> None:
    found = sam_sharpness(lambda w: jnp.sqrt(1.05 - w), 1.0, rho=0.1, num_steps=3)
    assert found.growth > 0
    assert sam_sharpness(lambda w: jnp.log(1 / (w - 0.9)), 1.0, rho=0.2).growth == np.inf


def test_bad_input() -> None:
    good = {"loss": lambda w: jnp.sum(w**2), "params": jnp.ones(2), "rho": 0.1}
    for change, match in (
        ({"rho": 0.0}, "rho must be positive and finite"),
        ({"rho": float("nan")}, "rho must be positive and finite"),
        ({"norm": "L1"}, "got norm 'L1': expected one of L2, Linf"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"loss": lambda w: w**2}, r"loss of shape \(2,\)"),
        ({"loss": lambda w: (jnp.sum(w), w)}, "returns tuple: expected one number"),
        ({"loss": lambda w: jnp.sum(w) / 0}, "expected a finite number"),
        ({"loss": lambda w: jnp.sum(w > 0)}, "expected a floating-point number"),
        ({"params": {}}, "at least one entry"),
        ({"params": jnp.ones(2, int)}, "floating-point types only"),
        ({"params": jnp.ones(2, bool)}, "floating-point types only"),
        ({"params": jnp.ones(2, complex)}, "floating-point types only"),
    ):
        options = good | change
        with pytest.raises(InputError, match=match):
            sam_sharpness(options.pop("loss"), options.pop("params"), **options)
