"""Standard training: L = CE(z(x), y), no perturbation."""

from collections.abc import Sequence

from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rctaf_jax.aliases import Classes, Pixels, Predict
from rctaf_jax.losses import cross_entropy

from .method import Budget, Method, Recipe, RecipeSetting, ViewLogits


def recipe(setting: RecipeSetting) -> Recipe:
    """The usual one for CIFAR."""
    return Recipe(
        epochs=200,
        learning_rate=0.1,
        schedule="cosine",
        decay_epochs=(101, 151),
        weight_decay=5e-4,
        attack_steps=0,
        step_size=0.0,
    )


def perturb(
    keys: PRNGKeyArray, predict: Predict, images: Pixels, labels: Classes, budget: Budget
) -> Pixels:
    """The images as they are."""
    return images


def loss(views: Sequence[ViewLogits], labels: Classes, memory: PyTree) -> Float[Array, ""]:
    """Mean cross-entropy of the clean images."""
    return cross_entropy(views[0].clean, labels).mean()


def standard() -> Method:
    """Standard (not adversarial) training."""
    return Method("standard", perturb, loss, passes=("clean",))
