from collections.abc import Callable
from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rctaf_jax.errors import InputError
from rctaf_jax.losses import cross_entropy, dlr, dlr_targeted, kl_divergence, margin


def _dlr_against_next(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return dlr_targeted(logits, labels, (labels + 1) % logits.shape[-1])


BY_LABEL = {
    "cross_entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "dlr_targeted": _dlr_against_next,
}


def _kl_with_shuffled(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return kl_divergence(logits, logits[:, ::-1] * labels[:, None])


CONTRACT = {**BY_LABEL, "kl_divergence": _kl_with_shuffled}


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, (6, 5)), rng.integers(0, 5, 6)


def test_values_by_hand() -> None:
    logits, labels = jnp.log(jnp.array([[2.0, 1.0, 5.0], [8.0, 4.0, 4.0]])), jnp.array([0, 0])
    assert cross_entropy(logits, labels) == pytest.approx([log(4), log(2)], rel=1e-6)
    assert margin(logits, labels) == pytest.approx([log(2.5), -log(2)], rel=1e-6)
    assert dlr(logits, labels) == pytest.approx([log(2.5) / log(5), -1], rel=1e-6)
    # Logits 0, log 2, log 4, log 8: log(2 / 8) over log 8 - (log 2 + 0) / 2.
    four = jnp.log(jnp.array([[1.0, 2.0, 4.0, 8.0]]))
    targeted = dlr_targeted(four, jnp.array([3]), jnp.array([1]))
    assert targeted == pytest.approx([log(2 / 8) / (log(8) - log(2) / 2)], rel=1e-6)
    # KL((1/2, 1/2) || (1/4, 3/4)) = (1/2) log 2 + (1/2) log (2/3), and it is not symmetric.
    half, quarter = jnp.array([[0.0, 0.0]]), jnp.log(jnp.array([[1.0, 3.0]]))
    assert kl_divergence(half, quarter)[0] == pytest.approx(0.5 * log(4 / 3), rel=1e-6)
    backward = 0.25 * log(1 / 2) + 0.75 * log(3 / 2)
    assert kl_divergence(quarter, half)[0] == pytest.approx(backward, rel=1e-6)


@pytest.mark.parametrize("name", CONTRACT)
def test_contract(name: str, batch: tuple[np.ndarray, np.ndarray]) -> None:
    """Eager equals jit, batch equals loop, and the gradient equals finite differences."""
    with jax.enable_x64(True):
        loss: Callable[..., jax.Array] = CONTRACT[name]
        logits, labels = map(jnp.asarray, batch)
        values = loss(logits, labels)
        assert values.shape == (6,)
        np.testing.assert_allclose(jax.jit(loss)(logits, labels), values, rtol=1e-14)
        for i in range(6):
            one = loss(logits[i : i + 1], labels[i : i + 1])
            np.testing.assert_allclose(one[0], values[i], rtol=1e-14)
        gradient = jax.grad(lambda z: loss(z, labels).sum())(logits)
        direction = np.random.default_rng(1).normal(size=logits.shape)
        step = 1e-6
        ahead = loss(logits + step * direction, labels)
        behind = loss(logits - step * direction, labels)
        slope = np.sum(gradient * direction, axis=1)
        np.testing.assert_allclose((ahead - behind) / (2 * step), slope, rtol=1e-7, atol=1e-8)


def test_kl_equals_reference(reference: Callable[[str], dict[str, np.ndarray]]) -> None:
    known = reference("losses")
    with jax.enable_x64(True):
        value, gradients = jax.value_and_grad(
            lambda p, q: kl_divergence(p, q).mean(), argnums=(0, 1)
        )(jnp.asarray(known["logits_clean"]), jnp.asarray(known["logits_adversarial"]))
        np.testing.assert_allclose(value, known["trades_kl"], rtol=1e-10)
        for gradient, name in zip(gradients, ("clean", "adversarial"), strict=True):
            np.testing.assert_allclose(gradient, known[f"trades_kl_grad_{name}"], atol=1e-10)


def test_trades_from_its_parts(reference: Callable[[str], dict[str, np.ndarray]]) -> None:
    """Cross-entropy plus 6 times the divergence: ties cross_entropy to the reference too."""
    known = reference("losses")
    with jax.enable_x64(True):
        clean, other, labels = (
            jnp.asarray(known[name]) for name in ("logits_clean", "logits_adversarial", "labels")
        )

        def loss(clean: jax.Array) -> jax.Array:
            return (cross_entropy(clean, labels) + 6 * kl_divergence(clean, other)).mean()

        value, gradient = jax.value_and_grad(loss)(clean)
        np.testing.assert_allclose(value, known["trades_beta6"], rtol=1e-10)
        np.testing.assert_allclose(gradient, known["trades_beta6_grad_clean"], atol=1e-10)


def test_dlr_equals_reference(reference: Callable[[str], dict[str, np.ndarray]]) -> None:
    known = reference("losses")
    with jax.enable_x64(True):
        logits, labels = jnp.asarray(known["logits_clean"]), jnp.asarray(known["labels"])
        each = dlr(logits, labels)
        np.testing.assert_allclose(each, known["dlr_each"], rtol=1e-10)
        value, gradient = jax.value_and_grad(lambda z: dlr(z, labels).sum())(logits)
        np.testing.assert_allclose(value, known["dlr"], rtol=1e-10)
        np.testing.assert_allclose(gradient, known["dlr_grad_clean"], atol=1e-10)


def test_dlr_targeted_equals_reference(reference: Callable[[str], dict[str, np.ndarray]]) -> None:
    known = reference("losses")
    with jax.enable_x64(True):
        logits, labels, targets = (
            jnp.asarray(known[name]) for name in ("logits_clean", "labels", "target_rank3")
        )
        each = dlr_targeted(logits, labels, targets)
        np.testing.assert_allclose(each, known["dlr_targeted_each"], rtol=1e-10)


@pytest.mark.parametrize("name", BY_LABEL)
@pytest.mark.parametrize("scale", [1e-30, 1e4, 1e30])
def test_extreme_logits_stay_finite(name: str, scale: float) -> None:
    logits = scale * jnp.array([[3.0, 1.0, -2.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    labels = jnp.array([1, 2])
    value, gradient = jax.value_and_grad(lambda z: BY_LABEL[name](z, labels).sum())(logits)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("zero", [-1e4, -1e30, -jnp.inf])
def test_class_of_probability_zero_adds_nothing(zero: float) -> None:
    p, q = jnp.array([[0.0, 1.0, zero]]), jnp.array([[0.5, 0.0, zero]])
    value, (grad_p, grad_q) = jax.value_and_grad(
        lambda p, q: kl_divergence(p, q).sum(), argnums=(0, 1)
    )(p, q)
    rest_value, (rest_p, rest_q) = jax.value_and_grad(
        lambda p, q: kl_divergence(p, q).sum(), argnums=(0, 1)
    )(p[:, :2], q[:, :2])
    np.testing.assert_allclose(value, rest_value, rtol=1e-5)
    np.testing.assert_allclose(grad_p, np.append(rest_p, [[0]], axis=1), atol=1e-6)
    np.testing.assert_allclose(grad_q, np.append(rest_q, [[0]], axis=1), atol=1e-6)


def test_divergence_from_itself_is_a_minimum(batch: tuple[np.ndarray, np.ndarray]) -> None:
    logits = jnp.asarray(batch[0])
    gradient = jax.grad(lambda q: kl_divergence(logits, q).sum())(logits)
    np.testing.assert_allclose(kl_divergence(logits, logits), 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_too_few_classes() -> None:
    with pytest.raises(InputError, match="dlr needs logits of at least 3 classes, got 2"):
        dlr(jnp.zeros((1, 2)), jnp.array([0]))
    with pytest.raises(InputError, match="dlr_targeted needs logits of at least 4 classes, got 3"):
        dlr_targeted(jnp.zeros((1, 3)), jnp.array([0]), jnp.array([1]))
    with pytest.raises(InputError, match="margin needs logits of at least 2 classes, got 1"):
        margin(jnp.zeros((1, 1)), jnp.array([0]))


@pytest.mark.parametrize("name", BY_LABEL)
def test_ranks_are_checked(name: str) -> None:
    with pytest.raises(InputError, match=r"expected \[batch, classes\] and integers \[batch\]"):
        BY_LABEL[name](jnp.zeros((2, 3, 4)), jnp.array([0, 1]))


@pytest.mark.parametrize(
    ("logits", "labels", "hint"),
    [
        (jnp.zeros((4, 3)), jnp.zeros((4, 3)), "of one-hot labels give the argmax"),
        (jnp.zeros((4, 3)), jnp.zeros((4, 1), jnp.int32), r"of a column give labels\[:, 0\]"),
        (jnp.zeros(3), jnp.int32(1), "of one example give both with an axis in front"),
        (jnp.zeros((4, 3)), jnp.zeros(4), "of float32"),
        (jnp.zeros((4, 3)), jnp.zeros(5, jnp.int32), r"labels \(5,\)"),
    ],
)
def test_the_likely_mistake_is_named(logits, labels, hint):
    with pytest.raises(InputError, match=hint):
        cross_entropy(logits, labels)
