import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.projected_ascent import projected_ascent
from rctaf_jax.threat_model import NORMS, norm_named, project

names = pytest.mark.parametrize("norm", NORMS)


def _curved(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sin(7 * x) * x**2)


@pytest.fixture
def images() -> jax.Array:
    return jax.random.uniform(jax.random.key(0), (5, 3, 3, 1))


@names
def test_equals_steps_written_out(norm: str, images: jax.Array) -> None:
    start = images + 0.02
    settings = {"norm": norm, "epsilon": 0.2, "step_size": 0.05, "num_steps": 6}
    x, gradient = start, jax.jit(jax.grad(_curved))
    for _ in range(6):
        x = x + 0.05 * norm_named(norm).steepest(gradient(x))
        x = project(x, images, norm=norm, epsilon=0.2)
    actual = projected_ascent(_curved, start, images, **settings)
    np.testing.assert_allclose(actual, x, atol=1e-6)
    jitted = jax.jit(lambda s, c: projected_ascent(_curved, s, c, **settings))(start, images)
    np.testing.assert_allclose(jitted, actual, atol=1e-6)


def test_linear_objective_reaches_the_corner_and_the_pole() -> None:
    """By hand: Linf ends at x + epsilon sign(w), L2 at x + epsilon w / ||w||, L1 at a vertex."""
    images, weights = jnp.full((1, 2), 0.5), jnp.array([0.3, -0.4])

    def ascend(norm: str) -> jax.Array:
        return projected_ascent(
            lambda x: jnp.sum(x @ weights),
            images,
            images,
            norm=norm,
            epsilon=0.25,
            step_size=0.1,
            num_steps=5,
        )

    np.testing.assert_allclose(ascend("Linf"), [[0.75, 0.25]], atol=1e-6)
    np.testing.assert_allclose(ascend("L2"), [[0.65, 0.3]], atol=1e-6)
    np.testing.assert_allclose(ascend("L1"), [[0.5, 0.25]], atol=1e-6)


@names
def test_edge_cases(norm: str, images: jax.Array) -> None:
    def ascend(objective: object, **changed: float) -> jax.Array:
        settings = {"epsilon": 0.2, "step_size": 0.05, "num_steps": 3} | changed
        return projected_ascent(objective, images, images, norm=norm, **settings)

    np.testing.assert_array_equal(ascend(_curved, epsilon=0.0), images)
    np.testing.assert_array_equal(ascend(_curved, num_steps=0), images)
    np.testing.assert_array_equal(ascend(lambda x: 0 * jnp.sum(x)), images)
    assert jnp.isfinite(ascend(lambda x: jnp.nan * jnp.sum(x))).all()


def test_no_gradient_through_the_result(images: jax.Array) -> None:
    def outer(scale: jax.Array) -> jax.Array:
        adversarial = projected_ascent(
            lambda x: jnp.sum(scale * x**2),
            scale * images,
            images,
            norm="L2",
            epsilon=0.1,
            step_size=0.1,
            num_steps=2,
        )
        return jnp.sum(adversarial)

    assert jax.grad(outer)(jnp.float32(1.0)) == 0


@names
def test_new_sizes_do_not_recompile(norm: str, images: jax.Array) -> None:
    traced = []

    @jax.jit
    def run(epsilon: float, step_size: float) -> jax.Array:
        traced.append(norm)
        return projected_ascent(
            _curved, images, images, norm=norm, epsilon=epsilon, step_size=step_size, num_steps=2
        )

    assert not np.allclose(run(0.1, 0.05), run(0.2, 0.1))
    assert len(traced) == 1


def test_bad_arguments(images: jax.Array) -> None:
    sizes = {"epsilon": 0.1, "step_size": 0.1}
    with pytest.raises(InputError, match="num_steps must be at least 0, got -1"):
        projected_ascent(_curved, images, images, norm="L2", num_steps=-1, **sizes)
    with pytest.raises(InputError, match="unknown norm 'l2'"):
        projected_ascent(_curved, images, images, norm="l2", num_steps=1, **sizes)
