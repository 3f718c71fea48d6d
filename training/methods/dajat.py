"""DAJAT (Addepalli et al. 2022): TRADES on several views at once, held together.

    L = mean_v L_v + w JS(p(x_1), p(x_2), p(x_3)),
    L_v = CE(z(x_v), y) + beta KL(p(x_v) || p(x'_v)).

View 1 is the image cropped and flipped as usual, views 2 and 3 come from AutoAugment first. They
share all weights but those of BatchNorm: base and augmented views have sets of their own (scale,
bias and statistics), and the base set is the one evaluated. Each x'_v ascends the divergence within
a ball that grows with the epoch, eps_e = eps e / E. ACAT is the same with the base view alone.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from rctaf_jax.aliases import Classes
from rctaf_jax.losses import cross_entropy, jensen_shannon, kl_divergence

from .method import AUGMENTED, BASE, Loss, Method, Recipe, RecipeSetting, ViewLogits
from .perturbations import perturb_by_divergence


def recipe(setting: RecipeSetting) -> Recipe:
    """The paper's, for ResNet-18 and Wide ResNets, 10 and 100 classes."""
    if setting.num_classes >= 100:
        options = {"beta": 9.0, "js_weight": 2.0, "label_smoothing": 0.1}
    elif setting.is_wide:
        options = {"beta": 10.0, "js_weight": 3.0, "label_smoothing": 0.0}
    else:
        options = {"beta": 11.0, "js_weight": 2.0, "label_smoothing": 0.0}
    return Recipe(
        epochs=200,
        learning_rate=0.2,
        schedule="epoch-cosine",
        weight_decay=5e-4,
        budget="high",
        awp=0.005,
        averaging=0.9996,
        options=options,
    )


def acat_recipe(setting: RecipeSetting) -> Recipe:
    """DAJAT's in its low budget, without what belongs to the further views."""
    full = recipe(setting)
    options = {name: value for name, value in full.options.items() if name != "js_weight"}
    return full._replace(epochs=110, budget="low", options=options)


def make_loss(beta: float, js_weight: float, label_smoothing: float) -> Loss:
    """The DAJAT loss; of a single view it is TRADES'."""

    def of_view(view: ViewLogits, labels: Classes) -> Float[Array, ""]:
        natural = cross_entropy(view.clean, labels, label_smoothing=label_smoothing)
        return jnp.mean(natural + beta * kl_divergence(view.clean, view.adversarial))

    def loss(views: Sequence[ViewLogits], labels: Classes, memory: PyTree) -> Float[Array, ""]:
        mean = jnp.stack([of_view(view, labels) for view in views]).mean()
        if len(views) == 1:
            return mean
        return mean + js_weight * jensen_shannon([view.clean for view in views]).mean()

    return loss


def dajat(*, beta: float, js_weight: float, label_smoothing: float) -> Method:
    """DAJAT: one base view, two augmented ones.

    Args:
      beta: weight of each view's divergence.
      js_weight: of the Jensen-Shannon term.
      label_smoothing: share of the label's probability that the other classes get.
    """
    loss = make_loss(beta, js_weight, label_smoothing)
    views = (BASE, AUGMENTED, AUGMENTED)
    return Method("dajat", perturb_by_divergence, loss, views=views)


def acat(*, beta: float, label_smoothing: float) -> Method:
    """ACAT: DAJAT with no augmented views."""
    return Method("acat", perturb_by_divergence, make_loss(beta, 0.0, label_smoothing))
