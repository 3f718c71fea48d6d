"""TRADES (Zhang et al. 2019): L = CE(z(x), y) + beta KL(p(x) || p(x')).

x' ascends KL(p(x) || p(x')) from x + 0.001 N(0, 1) with BatchNorm in inference mode; in the loss
gradients flow through both p(x) and p(x').
"""

from collections.abc import Sequence

from jaxtyping import Array, Float, PyTree

from rctaf_jax.aliases import Classes
from rctaf_jax.losses import cross_entropy, kl_divergence

from .method import Loss, Method, Recipe, RecipeSetting, ViewLogits
from .perturbations import perturb_by_divergence


def recipe(setting: RecipeSetting) -> Recipe:
    """For CIFAR-10; the paper's is for WRN-34-10, and everyone uses it for the others too."""
    return Recipe(
        epochs=76,
        learning_rate=0.1,
        schedule="step",
        decay_epochs=(75, 90, 100),
        weight_decay=2e-4,
        attack_steps=10,
        step_size=0.007,
        options={"beta": 6.0},
    )


def make_loss(beta: float) -> Loss:
    """The TRADES loss; `beta` weighs robustness against accuracy (not the activation's beta)."""

    def loss(views: Sequence[ViewLogits], labels: Classes, memory: PyTree) -> Float[Array, ""]:
        clean, adversarial = views[0].clean, views[0].adversarial
        natural = cross_entropy(clean, labels).mean()
        return natural + beta * kl_divergence(clean, adversarial).mean()

    return loss


def trades(*, beta: float) -> Method:
    """TRADES with weight `beta` (6 in the paper)."""
    return Method("trades", perturb_by_divergence, make_loss(beta))
