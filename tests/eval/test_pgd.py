from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.eval import PGDResult, make_fgsm, make_pgd, pgd_attack
from rctaf_jax.eval.pgd import PGD_LOSSES
from rctaf_jax.threat_model import NORMS

EPSILON = {"Linf": 0.1, "L2": 0.15, "L1": 0.2}
DUAL = {"Linf": 1, "L2": 2, "L1": np.inf}
KEY = jax.random.key(0)
names = pytest.mark.parametrize("norm", NORMS)

Examples = tuple[np.ndarray, np.ndarray]


WEIGHTS = np.random.default_rng(2).normal(size=(4, 2)).astype(np.float32)
GREY = (
    np.random.default_rng(4).integers(60, 200, (60, 2, 2, 1), np.uint8),
    np.random.default_rng(5).integers(0, 2, 60),
)


@pytest.fixture
def examples() -> Examples:
    """Pixels away from 0 and 1, so that the box never binds."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.3, 0.7, (60, 2, 2, 1)).astype(np.float32), rng.integers(0, 2, 60)


def _linear(weights: np.ndarray, images: jax.Array) -> jax.Array:
    score = (images - 0.5).reshape(len(images), -1) @ weights
    return jnp.stack([-score / 2, score / 2], axis=1)


def _curved(weights: jax.Array, images: jax.Array) -> jax.Array:
    return jnp.sin(9 * images.reshape(len(images), -1)) @ weights


def _clean_margin(weights: np.ndarray, examples: Examples) -> np.ndarray:
    images, labels = examples
    score = (images.astype(np.float64) - 0.5).reshape(60, 4) @ weights
    return np.where(labels == 1, score, -score)


@names
@pytest.mark.parametrize("loss", PGD_LOSSES)
def test_linear_classifier_in_closed_form(norm: str, loss: str, examples: Examples) -> None:
    """Robust if and only if the margin exceeds epsilon ||w||_dual; one program for all."""
    traced = []

    def logits_fn(weights: jax.Array, x: jax.Array) -> jax.Array:
        traced.append(norm)
        return _linear(weights, x)

    attack = make_pgd(logits_fn, norm=norm, num_steps=20, loss=loss, batch_size=32)
    compilations = None
    for seed, scale in enumerate((0.25, 0.5, 1.0)):
        weights = np.random.default_rng(seed).normal(size=4).astype(np.float32)
        epsilon = scale * EPSILON[norm]
        result = attack(weights, *examples, KEY, epsilon, epsilon)
        margin = _clean_margin(weights, examples)
        bound = epsilon * np.linalg.norm(weights, ord=DUAL[norm])
        decided = np.abs(margin - bound) > 1e-3
        assert decided.sum() > 55
        np.testing.assert_array_equal(result.robust[decided], (margin > bound)[decided])
        assert 0 < result.robust.sum() < (margin > 0).sum()
        # Where the clean image is right, the worst point of the ball is known too.
        attacked = _clean_margin(weights, (result.adversarial, examples[1]))
        expected = np.where(margin > 0, margin - bound, margin)
        np.testing.assert_allclose(attacked, expected, atol=1e-4)
        compilations = compilations or len(traced)
    assert len(traced) == compilations


def test_small_grid_by_brute_force(examples: Examples) -> None:
    """On a nonlinear network restarts agree with exhaustive search, away from its boundary."""
    images, labels = np.clip(examples[0][:12, :1], 0, 1), examples[1][:12]
    weights = jnp.array(np.random.default_rng(3).normal(size=(2, 2)), jnp.float32)
    attack = make_pgd(
        _curved, norm="Linf", num_steps=20, num_restarts=8, loss="margin", batch_size=12
    )
    result = attack(weights, images, labels, KEY, 0.1, 0.02)
    offsets = np.linspace(-0.1, 0.1, 41)
    grid = np.stack(np.meshgrid(offsets, offsets), -1).reshape(-1, 1, 1, 2).swapaxes(2, 3)
    worst = np.array(
        [
            PGD_LOSSES["margin"](
                _curved(weights, jnp.asarray(image + grid.reshape(-1, *image.shape))),
                jnp.full(len(grid), label),
            ).max()
            for image, label in zip(images, labels, strict=True)
        ]
    )
    decided = np.abs(worst) > 1e-2
    assert decided.sum() >= 10
    assert 0 < result.robust.sum() < 12
    np.testing.assert_array_equal(result.robust[decided], (worst < 0)[decided])


@pytest.fixture(scope="module", params=list(NORMS))
def runs(request: pytest.FixtureRequest) -> dict[int, PGDResult]:
    """Results by batch size on 60 images of uint8, and under -1 that of the first image alone."""
    norm = request.param
    settings = {"norm": norm, "num_steps": 2, "num_restarts": 6}
    results = {}
    # One norm suffices to tell 64 apart; a compilation is what takes the time here.
    for batch_size in (60, 64, 7) if norm == "Linf" else (60, 7):
        attack = make_pgd(_curved, **settings, batch_size=batch_size)
        results[batch_size] = attack(WEIGHTS, *GREY, KEY, EPSILON[norm], EPSILON[norm] / 4)
    first = (part[:1] for part in GREY)
    results[-1] = attack(WEIGHTS, *first, KEY, EPSILON[norm], EPSILON[norm] / 4)
    single = make_pgd(_curved, **(settings | {"num_restarts": 1}), batch_size=60)
    results[0] = single(WEIGHTS, *GREY, KEY, EPSILON[norm], EPSILON[norm] / 4)
    return results


def test_results_do_not_depend_on_batch_size(runs: dict[int, PGDResult]) -> None:
    for batch_size in runs.keys() - {-1, 0}:
        np.testing.assert_array_equal(runs[batch_size].robust, runs[60].robust)
        np.testing.assert_allclose(runs[batch_size].adversarial, runs[60].adversarial, atol=1e-5)
    np.testing.assert_array_equal(runs[-1].robust, runs[60].robust[:1])
    np.testing.assert_allclose(runs[-1].adversarial, runs[60].adversarial[:1], atol=1e-5)


def test_adversarial_images_explain_the_verdict(runs: dict[int, PGDResult]) -> None:
    result, (images, labels) = runs[60], GREY
    assert result.adversarial.dtype == np.float32
    again = np.asarray(_curved(WEIGHTS, result.adversarial)).argmax(axis=1)
    np.testing.assert_array_equal(again == labels, result.robust)
    clean = (images / 255).astype(np.float32)
    is_wrong = np.asarray(_curved(WEIGHTS, clean)).argmax(axis=1) != labels
    assert 0 < is_wrong.sum() < 60
    np.testing.assert_array_equal(result.adversarial[is_wrong], clean[is_wrong])


def test_more_restarts_break_more(runs: dict[int, PGDResult]) -> None:
    six, one = runs[60], runs[0]
    assert (six.robust <= one.robust).all()
    assert 0 < six.robust.sum() < one.robust.sum()
    # Of images that stay robust the one with the highest loss is kept.
    held = six.robust
    losses = [
        PGD_LOSSES["ce"](_curved(WEIGHTS, run.adversarial), jnp.asarray(GREY[1]))[held]
        for run in (six, one)
    ]
    assert (losses[0] >= losses[1] - 1e-5).all()
    assert (losses[0] > losses[1] + 1e-5).any()


@names
def test_epsilon_zero_is_clean_accuracy(norm: str, examples: Examples) -> None:
    weights = np.random.default_rng(0).normal(size=4).astype(np.float32)
    attack = make_pgd(_linear, norm=norm, num_steps=2, batch_size=60)
    result = attack(weights, *examples, KEY, 0.0, 0.1)
    np.testing.assert_array_equal(result.robust, _clean_margin(weights, examples) > 0)
    np.testing.assert_array_equal(result.adversarial, examples[0])


@names
def test_fgsm_is_one_step_from_the_clean_image(norm: str, examples: Examples) -> None:
    weights = np.random.default_rng(0).normal(size=4).astype(np.float32)
    result = make_fgsm(_linear, norm=norm, batch_size=25)(weights, *examples, EPSILON[norm])
    direction = {
        "Linf": np.sign(weights),
        "L2": weights / np.linalg.norm(weights),
        "L1": np.sign(weights) * (np.abs(weights) == np.abs(weights).max()),
    }
    towards = np.where(examples[1] == 1, -1, 1)[:, None] * direction[norm]
    moved = examples[0] + EPSILON[norm] * towards.reshape(60, 2, 2, 1)
    is_right = _clean_margin(weights, examples) > 0
    np.testing.assert_allclose(result.adversarial[is_right], moved[is_right], atol=1e-5)
    np.testing.assert_array_equal(result.adversarial[~is_right], examples[0][~is_right])


def test_box_binds() -> None:
    images = np.array([0.0, 1.0, 0.02, 0.99], np.float32).reshape(1, 2, 2, 1)
    weights = np.array([1.0, -1.0, 1.0, -1.0], np.float32)
    result = make_fgsm(_linear, norm="Linf", batch_size=1)(weights, images, np.array([0]), 0.1)
    expected = np.array([0.1, 0.9, 0.12, 0.89]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(result.adversarial, expected, atol=1e-6)


def _nan_where(condition: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    def logits_fn(variables: float, images: jax.Array) -> jax.Array:
        mean = images.mean(axis=(1, 2, 3))
        logits = jnp.stack([variables * (mean - 0.5), jnp.zeros_like(mean)], axis=1)
        return jnp.where(condition(mean)[:, None], jnp.nan, logits)

    return logits_fn


def test_nan_is_neither_robust_nor_broken() -> None:
    """Means .30 .45 .55 .90, label 0 wins above .5; NaN outside .31 to .85, epsilon .1."""
    images = np.array([0.30, 0.45, 0.55, 0.90], np.float32).reshape(4, 1, 1, 1)
    logits_fn = _nan_where(lambda mean: (mean < 0.31) | (mean > 0.85))
    attack = make_pgd(logits_fn, norm="Linf", num_steps=3, batch_size=4)
    result = attack(1.0, images, np.zeros(4, int), KEY, 0.1, 0.1)
    # The first is only ever seen to be NaN or wrong; the attack cannot move it (no gradient).
    assert result.nonfinite[3]
    assert result.robust.tolist() == [False, False, False, False]
    assert result.nonfinite[1:3].tolist() == [False, False]
    assert np.isfinite(result.adversarial).all()


def test_nan_at_the_last_iterate_is_reported() -> None:
    """The attack pushes the mean from .8 down into the NaN region, never across the boundary."""
    images = np.full((1, 1, 1, 1), 0.8, np.float32)
    attack = make_pgd(_nan_where(lambda mean: mean < 0.75), norm="Linf", num_steps=5, batch_size=1)
    result = attack(1.0, images, np.zeros(1, int), KEY, 0.1, 0.1)
    assert (result.robust.item(), result.nonfinite.item()) == (False, True)
    np.testing.assert_array_equal(result.adversarial, images)


def test_an_image_out_of_bounds_is_an_error(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_projection(
        objective: object, start: jax.Array, images: jax.Array, **settings: object
    ) -> jax.Array:
        return images + 0.2

    monkeypatch.setattr("rctaf_jax.eval.pgd.projected_ascent", no_projection)
    attack = make_pgd(_linear, norm="Linf", num_steps=1, batch_size=60)
    with pytest.raises(RuntimeError, match="moved image"):
        attack(np.ones(4, np.float32), *examples, KEY, 0.1, 0.1)


def test_bad_settings(examples: Examples) -> None:
    good = {"norm": "Linf", "num_steps": 1, "batch_size": 4}
    for change, message in (
        ({"norm": "L7"}, "unknown norm 'L7'"),
        ({"loss": "mse"}, "unknown loss 'mse': choose one of ce, margin"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"num_restarts": 0}, "num_restarts must be at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            make_pgd(_linear, **(good | change))
    attack = make_pgd(_linear, **good)
    with pytest.raises(InputError, match="epsilon must be"):
        attack(np.ones(4), *examples, KEY, -1.0, 0.1)
    with pytest.raises(InputError, match="step_size must be"):
        attack(np.ones(4), *examples, KEY, 0.1, float("nan"))


@names
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_images_in_16_bits(norm: str, dtype: jnp.dtype, examples: Examples) -> None:
    images, labels = examples
    images = images.astype(dtype)
    attack = make_pgd(_curved, norm=norm, num_steps=5, batch_size=32)
    result = attack(WEIGHTS, images, labels, KEY, EPSILON[norm], EPSILON[norm] / 3)
    wide = attack(WEIGHTS, images.astype(np.float32), labels, KEY, EPSILON[norm], EPSILON[norm] / 3)
    np.testing.assert_array_equal(result.adversarial, wide.adversarial)


def test_keys_of_other_implementations_do_not_depend_on_batches(examples: Examples) -> None:
    found = [
        make_pgd(_curved, norm="Linf", num_steps=2, batch_size=size)(
            WEIGHTS, *examples, jax.random.key(0, impl="rbg"), 0.1, 0.02
        ).adversarial
        for size in (60, 7)
    ]
    np.testing.assert_array_equal(*found)


def test_one_call_is_the_attack():
    made = make_pgd(_curved, norm="L2", num_steps=4, num_restarts=2, batch_size=7)
    expected = made(WEIGHTS, GREY[0], GREY[1], KEY, 0.3, 0.075)
    result = pgd_attack(
        lambda x: _curved(WEIGHTS, x),
        GREY[0],
        GREY[1],
        KEY,
        norm="L2",
        epsilon=0.3,
        num_steps=4,
        num_restarts=2,
    )
    np.testing.assert_array_equal(result.adversarial, expected.adversarial)
    share = f"{result.robust.mean():.2%}"
    assert result.summary().startswith(f"robust: {share} (")
    odd = result._replace(nonfinite=np.ones(len(GREY[1]), bool))
    assert odd.summary().endswith(f"logits not finite: {len(GREY[1])}")


def test_a_confident_network_is_attacked_too():
    """Cross-entropy has no gradient left where logits are large; the default loss has."""
    images = np.full((6, 1, 1, 2), [0.45, 0.55], np.float32)
    labels = np.ones(6, int)
    result = pgd_attack(
        lambda x: 1e6 * x.reshape(-1, 2), images, labels, KEY, epsilon=0.1, num_steps=5
    )
    assert not result.robust.any()
