import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.stats import kstest

from rctaf_jax.errors import InputError
from rctaf_jax.threat_model import (
    NORMS,
    ThreatModel,
    is_inside,
    norm_named,
    project,
    threat_model,
)

EPSILONS = {"Linf": 0.1, "L2": 0.7, "L1": 1.1}
ORDERS = {"Linf": np.inf, "L2": 2, "L1": 1}
DUALS = {"Linf": 1, "L2": 2, "L1": np.inf}
names = pytest.mark.parametrize("norm", NORMS)


def _length(norm: str, perturbation: np.ndarray) -> np.ndarray:
    flat = np.asarray(perturbation, np.float64).reshape(len(perturbation), -1)
    return np.linalg.norm(flat, ord=ORDERS[norm], axis=1)


def _expected(norm: str, image: np.ndarray, point: np.ndarray, epsilon: float) -> np.ndarray:
    """Ball, then box; for L1 both at once, the multiplier found by another root finder."""
    move = point - image
    if norm == "Linf":
        return np.clip(image + [min(max(entry, -epsilon), epsilon) for entry in move], 0, 1)
    if norm == "L2":
        outside = np.linalg.norm(move) > epsilon
        factor = epsilon / np.linalg.norm(move) if outside else 1
        return np.clip(image + factor * move, 0, 1)

    def shrunk(multiplier: float) -> np.ndarray:
        # Of each pixel on its own: min (d - move)^2 / 2 + multiplier |d|, then the interval.
        soft = np.where(np.abs(move) > multiplier, move - multiplier * np.sign(move), 0)
        return np.clip(image + soft, 0, 1)

    def excess(multiplier: float) -> float:
        return np.abs(shrunk(multiplier) - image).sum() - epsilon

    if excess(0) <= 0:
        return shrunk(0)
    return shrunk(brentq(excess, 0, np.abs(move).max(), xtol=1e-15, rtol=1e-15))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(40, 3, 2, 1))


@names
def test_project_equals_oracle(norm: str) -> None:
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(1000, 6))
    images[rng.uniform(size=images.shape) < 0.2] = 0
    images[rng.uniform(size=images.shape) < 0.1] = 1
    points = images + rng.normal(size=images.shape) * rng.choice([0.01, 0.1, 1, 10], (1000, 1))
    points[0] = images[0]
    points[1] = images[1] + 0.3  # equal entries: all breakpoints of L1's sum coincide
    images[2], points[2] = 0, -1  # no room at all
    images[3], points[3] = 1, [2, 0.5, 0.5, 0.5, 1, 0]
    with jax.enable_x64(True):
        for epsilon in (0.0, 0.01, EPSILONS[norm], 4.0):
            actual = project(jnp.asarray(points), images, norm=norm, epsilon=epsilon)
            pairs = zip(images, points, strict=True)
            expected = [_expected(norm, image, point, epsilon) for image, point in pairs]
            np.testing.assert_allclose(actual, expected, atol=1e-10)


def test_l1_projection_solves_the_convex_problem() -> None:
    """Against a general solver of the two-sided form d = p - q with p, q >= 0."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        image, move = rng.uniform(size=4), rng.normal(size=4)
        found = minimize(
            lambda pq, move=move: np.sum((pq[:4] - pq[4:] - move) ** 2),
            np.zeros(8),
            jac=lambda pq, move=move: np.kron([2, -2], pq[:4] - pq[4:] - move),
            bounds=[*((0, 1 - x) for x in image), *((0, x) for x in image)],
            constraints={"type": "ineq", "fun": lambda pq: 0.6 - pq.sum()},
            options={"ftol": 1e-14},
        )
        with jax.enable_x64(True):
            actual = project(jnp.asarray([image + move]), image[None], norm="L1", epsilon=0.6)
        np.testing.assert_allclose(
            np.asarray(actual)[0] - image, found.x[:4] - found.x[4:], atol=1e-5
        )


def test_huge_perturbation_keeps_the_radius() -> None:
    """Float32 cannot tell the perturbations apart, but the budget is still used up."""
    clean = np.random.default_rng(7).uniform(0.2, 0.8, (3, 200)).astype(np.float32)
    for scale in (1e4, 1e30):
        actual = project(jnp.asarray(clean + np.float32(scale)), clean, norm="L1", epsilon=5.0)
        np.testing.assert_allclose(_length("L1", np.asarray(actual) - clean), 5, rtol=1e-4)


@names
def test_a_radius_for_each_example(norm: str, images: np.ndarray) -> None:
    radii = np.linspace(0, 0.5, len(images)).astype(np.float32)
    actual = project(images + 1, images, norm=norm, epsilon=jnp.asarray(radii))
    for i in (0, 7, 39):
        one = project(images[i : i + 1] + 1, images[i : i + 1], norm=norm, epsilon=radii[i])
        np.testing.assert_array_equal(actual[i], one[0])


@names
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 2.0, 12.0])
def test_inside_is_what_a_check_in_float64_finds(norm: str, epsilon: float) -> None:
    """Around the boundary, in steps far below rounding: true implies allowed, and is not rare."""
    rng = np.random.default_rng(8)
    clean = rng.uniform(0.3, 0.7, (600, 8, 8, 3)).astype(np.float32)
    edge = project(jnp.asarray(clean + rng.normal(size=clean.shape)), clean, norm=norm, epsilon=12)
    scale = epsilon / np.maximum(_length(norm, np.asarray(edge) - clean), 1e-9)
    factor = scale * (1 + np.linspace(-1e-4, 1e-4, len(clean)))
    moved = (clean + factor[:, None, None, None] * (edge - clean)).astype(np.float32)
    inside = np.asarray(is_inside(moved, clean, norm=norm, epsilon=epsilon))
    in_box = ((moved >= 0) & (moved <= 1)).all(axis=(1, 2, 3))
    allowed = in_box & (_length(norm, np.asarray(moved, np.float64) - clean) <= epsilon + 1e-6)
    assert not (inside & ~allowed).any()
    assert inside[: len(inside) // 4].tolist() == allowed[: len(inside) // 4].tolist()
    projected = project(clean + 10 * (edge - clean), clean, norm=norm, epsilon=epsilon)
    assert is_inside(projected, clean, norm=norm, epsilon=epsilon).all()


@names
def test_outside_the_box_or_not_finite_is_not_inside(norm: str) -> None:
    clean = jnp.array([[0.0, 1.0]])
    for wrong in ([[-1e-7, 1.0]], [[0.0, 1.0000002]], [[jnp.nan, 1.0]], [[0.0, -jnp.inf]]):
        assert not is_inside(jnp.array(wrong), clean, norm=norm, epsilon=0.5).any()
    assert is_inside(clean, clean, norm=norm, epsilon=0.0).all()


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
@pytest.mark.parametrize(("norm", "largest"), [("L2", 3), ("L1", 60)])
def test_ball_holds_when_all_roundings_agree(
    norm: str, largest: float, level: float, side: int
) -> None:
    """Equal pixels pushed equally: every sum rounds the same way, the worst case in float32."""
    clean = jnp.full((1, side, side, 3), level)
    compiled = jax.jit(lambda epsilon: project(clean + 1, clean, norm=norm, epsilon=epsilon))
    # A pixel moves by whole units in the last place: for L1 the loss is half of one per pixel.
    lost = 1e-4 if norm == "L2" else 3 * side**2 * 2.0**-24
    for epsilon in np.linspace(0.1, largest, 12):
        actual = compiled(epsilon)
        length = _length(norm, np.asarray(actual, np.float64) - np.asarray(clean, np.float64))
        assert epsilon * (1 - 1e-3) - lost <= length[0] <= epsilon + 1e-7


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
    np.testing.assert_allclose(_length(norm, direction), 1, rtol=1e-12)
    best = np.linalg.norm(gradient, ord=DUALS[norm], axis=1)
    np.testing.assert_allclose(np.sum(direction * gradient, axis=1), best, rtol=1e-12)


@names
def test_steepest_of_degenerate_gradients(norm: str) -> None:
    steepest = norm_named(norm).steepest
    tiny = 1e-30 * np.array([[3.0, -4.0]], np.float32)  # its square is 0 in float32
    np.testing.assert_array_equal(steepest(jnp.zeros((2, 3))), np.zeros((2, 3)))
    equals = jnp.array([[2.0, -2.0, 2.0]])  # for L1 any one of them, not all
    assert _length(norm, np.asarray(steepest(equals))) == pytest.approx(1)
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
    with pytest.raises(InputError, match="unknown norm 'L7': choose one of Linf, L2, L1"):
        threat_model("L7", 0.1)
