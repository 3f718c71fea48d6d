"""DKL, as its authors train with it: IKL (Cui et al. 2024), L = CE + alpha SCE + beta wMSE.

With z = z(x), z' = z(x'), p = softmax(z) and weights s,

    SCE  = -mean_b sum_c stop(p_c(x)) log p_c(x'),
    wMSE = mean_b 1/4 sum_{ij} s_i s_j ((z_i - z_j) - (z'_i - z'_j))^2.

Their gradients, with s = p(x) and s and z' held constant in wMSE, add up to that of
KL(p(x) || p(x')): the divergence decoupled. The improved form lets gradients flow through both z
and z' and takes s from a table: row y of W, which holds the class's mean softmax(z(x) / T) over the
last epoch and starts at 1/C. x' ascends SCE, whose gradient in x' is that of KL(p(x) || p(x')),
from x + 0.001 N(0, 1), BatchNorm in inference mode.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from rctaf_jax.aliases import Classes, Logits
from rctaf_jax.losses import cross_entropy, soft_cross_entropy

from .method import Loss, Memory, Method, Recipe, RecipeSetting, ViewLogits
from .perturbations import perturb_by_divergence


def recipe(setting: RecipeSetting) -> Recipe:
    """The released code's, for CIFAR-10 and CIFAR-100."""
    return Recipe(
        epochs=200,
        learning_rate=0.2,
        schedule="epoch-cosine-end",
        weight_decay=5e-4,
        budget="high",
        awp=0.005,
        averaging=0.9996,
        options={"alpha": 4.0, "beta": 20.0, "temperature": 4.0},
    )


def weighted_square(
    logits: Logits, other: Logits, weights: Float[Array, "batch classes"]
) -> Float[Array, " batch"]:
    """1/4 sum_{ij} s_i s_j (d_i - d_j)^2 with d = z - z', one value per example.

    That is half the sum of s times the s-weighted variance of d, in O(C) where the double sum
    takes O(C^2); centred first, so that nothing cancels.
    """
    difference = logits - other
    total = weights.sum(-1, keepdims=True)
    centred = difference - (weights * difference).sum(-1, keepdims=True) / total
    return total[:, 0] * (weights * centred**2).sum(-1) / 2


def make_loss(alpha: float, beta: float) -> Loss:
    """The IKL loss; `memory["table"]` holds W."""

    def loss(views: Sequence[ViewLogits], labels: Classes, memory: PyTree) -> Float[Array, ""]:
        clean, adversarial = views[0].clean, views[0].adversarial
        target = jax.lax.stop_gradient(jax.nn.softmax(clean))
        soft = soft_cross_entropy(target, adversarial)
        square = weighted_square(clean, adversarial, memory["table"][labels])
        return jnp.mean(cross_entropy(clean, labels) + alpha * soft + beta * square)

    return loss


def class_table(temperature: float) -> Memory:
    """W [C, C], renewed at the end of each epoch from `sums` over the epoch's examples."""

    def initial(num_classes: int) -> dict[str, Array]:
        shape = (num_classes, num_classes)
        return {"table": jnp.full(shape, 1 / num_classes), "sums": jnp.zeros(shape)}

    def observe(views: Sequence[ViewLogits], labels: Classes) -> Float[Array, "classes classes"]:
        probabilities = jax.nn.softmax(views[0].clean / temperature)
        return jax.ops.segment_sum(probabilities, labels, probabilities.shape[-1])

    def update(memory: PyTree, observed: Array, ends_epoch: Bool[Array, ""]) -> dict[str, Array]:
        sums = memory["sums"] + observed
        totals = sums.sum(-1, keepdims=True)
        # A class that the epoch left out keeps its row.
        means = jnp.where(totals > 0, sums / jnp.where(totals > 0, totals, 1), memory["table"])
        return {
            "table": jnp.where(ends_epoch, means, memory["table"]),
            "sums": jnp.where(ends_epoch, 0, sums),
        }

    return Memory(initial, observe, update)


def dkl(*, alpha: float, beta: float, temperature: float) -> Method:
    """DKL in its improved form, IKL.

    Args:
      alpha: weight of the soft cross-entropy (4; 3 to 4 on CIFAR-10).
      beta: weight of the squared differences (20).
      temperature: T of the class table (4).
    """
    memory = class_table(temperature)
    return Method("dkl", perturb_by_divergence, make_loss(alpha, beta), memory=memory)
