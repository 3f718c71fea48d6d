"""MART (Wang et al. 2020): L = BCE(z(x'), y) + lambda mean[ KL(p(x) || p(x')) (1 - p_y(x)) ].

BCE = -log p_y(x') - log(1 - max_{c != y} p_c(x')), the boosted cross-entropy: images that the
network gets wrong when clean weigh more in the second term. x' ascends the cross-entropy from
x + 0.001 N(0, 1), BatchNorm in inference mode.

As in the released code, logarithms have 1e-12 added inside, and the ones of 1 - max p_c and of
1 - p_y are 1.0001 and 1.0000001: the first bounds the gradient where the network is sure and wrong.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from rctaf_jax.aliases import Classes, Logits, Pixels, Predict
from rctaf_jax.losses import cross_entropy

from .method import Budget, Loss, Method, Recipe, RecipeSetting, ViewLogits
from .perturbations import ascend_cross_entropy, near_start

LOG_FLOOR = 1e-12
ONE_OF_THE_WORST, ONE_OF_THE_RIGHT = 1.0001, 1.0000001


def recipe(setting: RecipeSetting) -> Recipe:
    """The released code's for ResNet-18, and its authors' for Wide ResNets."""
    wide = Recipe(
        epochs=90,
        learning_rate=0.1,
        schedule="step",
        decay_epochs=(75, 90, 100),
        weight_decay=7e-4,
        attack_steps=10,
        step_size=0.007,
        options={"weight": 6.0},
    )
    narrow = wide._replace(
        epochs=120, learning_rate=0.01, weight_decay=3.5e-3, options={"weight": 5.0}
    )
    return wide if setting.is_wide else narrow


def perturb(
    keys: PRNGKeyArray, predict: Predict, images: Pixels, labels: Classes, budget: Budget
) -> Pixels:
    """Ascend the cross-entropy from x + 0.001 N(0, 1)."""
    return ascend_cross_entropy(predict, images, near_start(keys, images), labels, budget)


def boosted_cross_entropy(logits: Logits, labels: Classes) -> Float[Array, " batch"]:
    """-log p_y - log(1 - max_{c != y} p_c), one value per example."""
    probabilities = jax.nn.softmax(logits)
    is_label = jnp.arange(logits.shape[-1]) == labels[:, None]
    worst = jnp.max(jnp.where(is_label, 0, probabilities), -1)
    return cross_entropy(logits, labels) - jnp.log(ONE_OF_THE_WORST - worst + LOG_FLOOR)


def make_loss(weight: float) -> Loss:
    """The MART loss; `weight` is the paper's lambda."""

    def loss(views: Sequence[ViewLogits], labels: Classes, memory: PyTree) -> Float[Array, ""]:
        clean, adversarial = jax.nn.softmax(views[0].clean), jax.nn.softmax(views[0].adversarial)
        right = jnp.take_along_axis(clean, labels[:, None], -1)[:, 0]
        log_ratio = jax.nn.log_softmax(views[0].clean) - jnp.log(adversarial + LOG_FLOOR)
        divergence = jnp.sum(clean * log_ratio, -1)
        boosted = boosted_cross_entropy(views[0].adversarial, labels)
        return jnp.mean(boosted + weight * divergence * (ONE_OF_THE_RIGHT - right))

    return loss


def mart(*, weight: float) -> Method:
    """MART with lambda = `weight` (5 in the paper)."""
    return Method("mart", perturb, make_loss(weight))
