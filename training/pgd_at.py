"""PGD adversarial training (Madry et al. 2018): L = CE(z(x'), y), x' = argmax CE(z(x'), y)."""

import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rctaf_jax.ascent import projected_ascent
from rctaf_jax.losses import cross_entropy
from rctaf_jax.threat_model import NORMS, project

from .method import Budget, Forward, Images, Labels, LossOutput, Method, Predict, Recipe

RECIPE = Recipe(
    epochs=110,
    learning_rate=0.1,
    schedule="step",
    decay_epochs=(100, 105),
    weight_decay=5e-4,
    attack_steps=10,
    step_size=2 / 255,
)


def perturb(
    keys: PRNGKeyArray, predict: Predict, images: Images, labels: Labels, budget: Budget
) -> Images:
    """Ascend the cross-entropy from a uniform point of the ball around each image."""
    draw = NORMS[budget.norm].random_ball
    noise = jax.vmap(lambda key: draw(key, images.shape[1:]))(keys).astype(images.dtype)
    start = project(
        images + budget.epsilon * noise, images, norm=budget.norm, epsilon=budget.epsilon
    )
    return projected_ascent(
        lambda x: cross_entropy(predict(x), labels).sum(), start, images, **budget._asdict()
    )


def loss(
    forward: Forward, batch_stats: PyTree, images: Images, adversarial: Images, labels: Labels
) -> tuple[Float[Array, ""], LossOutput]:
    """Mean cross-entropy of the adversarial images; its logits are theirs, not the clean ones'."""
    logits, batch_stats = forward(batch_stats, adversarial)
    return cross_entropy(logits, labels).mean(), LossOutput(batch_stats, logits)


def pgd_at() -> Method:
    """PGD adversarial training."""
    return Method("pgd-at", perturb, loss)
