"""Standard training: L = CE(z(x), y), no perturbation."""

from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rctaf_jax.losses import cross_entropy

from .method import Budget, Forward, Images, Labels, LossOutput, Method, Predict, Recipe

RECIPE = Recipe(
    epochs=200,
    learning_rate=0.1,
    schedule="cosine",
    decay_epochs=(100, 150),
    weight_decay=5e-4,
    attack_steps=0,
    step_size=0.0,
)


def perturb(
    keys: PRNGKeyArray, predict: Predict, images: Images, labels: Labels, budget: Budget
) -> Images:
    """The images as they are."""
    return images


def loss(
    forward: Forward, batch_stats: PyTree, images: Images, adversarial: Images, labels: Labels
) -> tuple[Float[Array, ""], LossOutput]:
    """Mean cross-entropy of the clean images."""
    logits, batch_stats = forward(batch_stats, images)
    return cross_entropy(logits, labels).mean(), LossOutput(batch_stats, logits)


def standard() -> Method:
    """Standard (not adversarial) training."""
    return Method("standard", perturb, loss)
