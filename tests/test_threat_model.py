import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import kstest

from rctaf_jax.errors import InputError
from rctaf_jax.threat_model import NORMS, ThreatModel, norm_named, project, threat_model

EPSILONS = {"Linf": 0.1, "L2": 0.7}
names = pytest.mark.parametrize("norm", NORMS)


def _length(norm: str, perturbation: np.ndarray) -> np.ndarray:
    flat = np.asarray(perturbation, np.float64).reshape(len(perturbation), -1)
    return np.linalg.norm(flat, ord={"Linf": np.inf, "L2": 2}[norm], axis=1)


def _nearest_in_ball(norm: str, point: np.ndarray, epsilon: float) -> np.ndarray:
    """The nearest point by its optimality condition, the multiplier found by bisection."""
    if norm == "Linf":
        return np.array([min(max(entry, -epsilon), epsilon) for entry in point])
    if np.linalg.norm(point) <= epsilon:
        return point
    multiplier = brentq(lambda m: np.linalg.norm(point / (1 + m)) - epsilon, 0, 1e9, xtol=1e-14)
    return point / (1 + multiplier)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(40, 3, 2, 1))


@names
def test_project_to_ball_equals_oracle(norm: str) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(50, 6)) * rng.choice([0.01, 0.1, 1, 10], (50, 1))
    points[0] = 0
    with jax.enable_x64(True):
        actual = norm_named(norm).project(jnp.asarray(points), EPSILONS[norm])
        expected = [_nearest_in_ball(norm, point, EPSILONS[norm]) for point in points]
        np.testing.assert_allclose(actual, expected, atol=1e-10)


@names
@pytest.mark.parametrize("epsilon", [0.0, 8 / 255, 0.5, 3.0, 12.0])
def test_projected_images_are_inside(norm: str, epsilon: float, images: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(size=images.shape) * 4
    clean = images.astype(np.float32)
    actual = project(jnp.asarray(clean + noise), clean, norm=norm, epsilon=epsilon)
    assert actual.dtype == jnp.float32
    assert 0 <= actual.min() <= actual.max() <= 1
    assert _length(norm, np.asarray(actual, np.float64) - clean).max() <= epsilon + 1e-7
    if epsilon == 0:
        np.testing.assert_array_equal(actual, clean)
    again = project(actual, clean, norm=norm, epsilon=epsilon)
    np.testing.assert_allclose(again, actual, atol=1e-6)


@pytest.mark.parametrize("level", [0.2, 0.7, 0.93])
@pytest.mark.parametrize("side", [32, 224])
def test_l2_ball_holds_when_all_roundings_agree(level: float, side: int) -> None:
    """Equal pixels pushed equally: every sum rounds the same way, the worst case in float32."""
    clean = jnp.full((1, side, side, 3), level)
    compiled = jax.jit(lambda epsilon: project(clean + 1, clean, norm="L2", epsilon=epsilon))
    for epsilon in np.linspace(0.1, 3, 12):
        actual = compiled(epsilon)
        length = _length("L2", np.asarray(actual, np.float64) - np.asarray(clean, np.float64))
        assert epsilon * (1 - 1e-3) - 1e-4 < length[0] <= epsilon


@names
def test_images_inside_do_not_move(norm: str, images: np.ndarray) -> None:
    near = np.clip(images + 0.01, 0, 1).astype(np.float32)
    actual = project(near, images.astype(np.float32), norm=norm, epsilon=0.5)
    np.testing.assert_allclose(actual, near, atol=1e-7)


@names
def test_steepest_maximises_the_inner_product(norm: str) -> None:
    gradient = np.random.default_rng(3).normal(size=(30, 5))
    with jax.enable_x64(True):
        direction = np.asarray(norm_named(norm).steepest(jnp.asarray(gradient)))
    dual = {"Linf": 1, "L2": 2}[norm]
    np.testing.assert_allclose(_length(norm, direction), 1, rtol=1e-12)
    best = np.linalg.norm(gradient, ord=dual, axis=1)
    np.testing.assert_allclose(np.sum(direction * gradient, axis=1), best, rtol=1e-12)


@names
def test_steepest_of_degenerate_gradients(norm: str) -> None:
    steepest = norm_named(norm).steepest
    tiny = 1e-30 * np.array([[3.0, -4.0]], np.float32)  # its square is 0 in float32
    np.testing.assert_array_equal(steepest(jnp.zeros((2, 3))), np.zeros((2, 3)))
    np.testing.assert_allclose(_length(norm, np.asarray(steepest(tiny))), 1, rtol=1e-6)
    assert jnp.isfinite(steepest(jnp.array([[jnp.nan, 1.0], [jnp.inf, 1.0]]))).all()


@names
def test_random_ball_is_uniform(norm: str) -> None:
    """Of a uniform draw in n dimensions, length^n is uniform in [0, 1]; directions have mean 0."""
    keys = jax.random.split(jax.random.key(4), 2000)
    draws = np.asarray(jax.vmap(lambda key: norm_named(norm).random_ball(key, (2, 1, 2)))(keys))
    assert draws.shape == (2000, 2, 1, 2)
    assert kstest(_length(norm, draws) ** 4, "uniform").pvalue > 0.01
    spread = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0)) < 4 * spread).all()


@names
def test_a_new_epsilon_does_not_recompile(norm: str, images: np.ndarray) -> None:
    traced = []

    @jax.jit
    def run(x: jax.Array, clean: jax.Array, epsilon: float) -> jax.Array:
        traced.append(norm)
        return project(x, clean, norm=norm, epsilon=epsilon)

    for epsilon in (0.0, 0.1, 0.5):
        eager = project(images + 1, images, norm=norm, epsilon=epsilon)
        np.testing.assert_allclose(run(images + 1, images, epsilon), eager, atol=1e-6)
    assert len(traced) == 1


@names
def test_batch_equals_loop(norm: str, images: np.ndarray) -> None:
    noisy = jnp.asarray(images + np.random.default_rng(5).normal(size=images.shape))
    clean = jnp.asarray(images)
    whole = project(noisy, clean, norm=norm, epsilon=EPSILONS[norm])
    for i in range(3):
        one = project(noisy[i : i + 1], clean[i : i + 1], norm=norm, epsilon=EPSILONS[norm])
        np.testing.assert_allclose(one[0], whole[i], atol=1e-7)


def test_threat_model_accepts_zero() -> None:
    assert threat_model("L2", 0) == ThreatModel("L2", 0.0)


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf")])
def test_bad_epsilon(epsilon: float) -> None:
    with pytest.raises(InputError, match=f"finite number of at least 0, got {epsilon}"):
        threat_model("Linf", epsilon)


def test_unknown_norm() -> None:
    with pytest.raises(InputError, match="unknown norm 'L7': expected Linf or L2"):
        threat_model("L7", 0.1)
