"""PGD adversarial training (Madry et al. 2018): L = CE(z(x'), y).

x' ascends the cross-entropy from a uniform point of the ball, BatchNorm in inference mode.
"""

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rctaf_jax.aliases import Classes, Pixels, Predict
from rctaf_jax.losses import cross_entropy
from rctaf_jax.threat_model import NORMS, project

from .method import Budget, Method, Recipe, RecipeSetting, ViewLogits
from .perturbations import ascend_cross_entropy


def recipe(setting: RecipeSetting) -> Recipe:
    """For CIFAR, with early stopping's 110 epochs (Rice et al. 2020)."""
    return Recipe(
        epochs=110,
        learning_rate=0.1,
        schedule="step",
        decay_epochs=(101, 106),
        weight_decay=5e-4,
        attack_steps=10,
        step_size=2 / 255,
    )


def perturb(
    keys: PRNGKeyArray, predict: Predict, images: Pixels, labels: Classes, budget: Budget
) -> Pixels:
    """Ascend the cross-entropy from a uniform point of the ball around each image."""
    draw = NORMS[budget.norm].random_ball
    noise = jax.vmap(lambda key: draw(key, images.shape[1:]))(keys).astype(images.dtype)
    start = project(
        images + budget.epsilon * noise, images, norm=budget.norm, epsilon=budget.epsilon
    )
    return ascend_cross_entropy(predict, images, start, labels, budget)


def loss(views: Sequence[ViewLogits], labels: Classes, memory: PyTree) -> Float[Array, ""]:
    """Mean cross-entropy of the adversarial images."""
    return cross_entropy(views[0].adversarial, labels).mean()


def pgd_at() -> Method:
    """PGD adversarial training."""
    return Method("pgd-at", perturb, loss, passes=("adversarial",))
