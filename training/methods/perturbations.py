"""Inner maximisations that several methods share: where they start and what they ascend.

BatchNorm is in inference mode (`predict`'s doing), and objectives are summed over the batch, so
that examples do not interact.
"""

import jax
from jaxtyping import PRNGKeyArray

from rctaf_jax.aliases import Classes, Pixels, Predict
from rctaf_jax.losses import cross_entropy, kl_divergence
from rctaf_jax.projected_ascent import projected_ascent

from .method import Budget

START_DEVIATION = 0.001


def near_start(keys: PRNGKeyArray, images: Pixels) -> Pixels:
    """x + 0.001 N(0, 1), TRADES' start: at x itself the gradient of the divergence vanishes."""
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:], images.dtype))(keys)
    return images + START_DEVIATION * noise


def ascend_divergence(predict: Predict, images: Pixels, start: Pixels, budget: Budget) -> Pixels:
    """Ascend KL(p(x) || p(x')) in x'; its gradient is that of the soft cross-entropy of p(x)."""
    reference = jax.lax.stop_gradient(predict(images))
    return projected_ascent(
        lambda x: kl_divergence(reference, predict(x)).sum(), start, images, **budget._asdict()
    )


def ascend_cross_entropy(
    predict: Predict, images: Pixels, start: Pixels, labels: Classes, budget: Budget
) -> Pixels:
    """Ascend CE(z(x'), y) in x'."""
    return projected_ascent(
        lambda x: cross_entropy(predict(x), labels).sum(), start, images, **budget._asdict()
    )


def perturb_by_divergence(
    keys: PRNGKeyArray, predict: Predict, images: Pixels, labels: Classes, budget: Budget
) -> Pixels:
    """TRADES' inner maximisation: KL(p(x) || p(x')) from x + 0.001 N(0, 1)."""
    return ascend_divergence(predict, images, near_start(keys, images), budget)
