"""TRADES (Zhang et al. 2019): L = CE(z(x), y) + beta KL(p(x) || p(x')).

x' ascends KL(p(x) || p(x')) from x + 0.001 N(0, 1) with BatchNorm in inference mode; in the loss
gradients flow through both p(x) and p(x').
"""

import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rctaf_jax.ascent import projected_ascent
from rctaf_jax.losses import cross_entropy, kl_divergence

from .method import Budget, Forward, Images, Labels, Loss, LossOutput, Method, Predict, Recipe

RECIPE = Recipe(
    epochs=76,
    learning_rate=0.1,
    schedule="step",
    decay_epochs=(75, 90, 100),
    weight_decay=2e-4,
    attack_steps=10,
    step_size=0.007,
)
START_DEVIATION = 0.001


def perturb(
    keys: PRNGKeyArray, predict: Predict, images: Images, labels: Labels, budget: Budget
) -> Images:
    """Ascend KL(p(x) || p(x')) from x + 0.001 N(0, 1)."""
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:], images.dtype))(keys)
    return ascend_divergence(predict, images, images + START_DEVIATION * noise, budget)


def ascend_divergence(predict: Predict, images: Images, start: Images, budget: Budget) -> Images:
    """Ascend KL(p(x) || p(x')), summed over the batch so that examples do not interact."""
    reference = jax.lax.stop_gradient(predict(images))
    return projected_ascent(
        lambda x: kl_divergence(reference, predict(x)).sum(), start, images, **budget._asdict()
    )


def make_loss(beta: float) -> Loss:
    """The TRADES loss; `beta` weighs robustness against accuracy (not the activation's beta)."""

    def loss(
        forward: Forward, batch_stats: PyTree, images: Images, adversarial: Images, labels: Labels
    ) -> tuple[Float[Array, ""], LossOutput]:
        logits, batch_stats = forward(batch_stats, images)
        adversarial_logits, batch_stats = forward(batch_stats, adversarial)
        natural = cross_entropy(logits, labels).mean()
        robust = kl_divergence(logits, adversarial_logits).mean()
        return natural + beta * robust, LossOutput(batch_stats, logits)

    return loss


def trades(*, beta: float = 6.0) -> Method:
    """TRADES with weight `beta` (6 in the paper)."""
    return Method("trades", perturb, make_loss(beta))
