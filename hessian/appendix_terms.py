"""The second derivatives of the paper's appendix, D_i^(l) = d delta_i^(l) / dz_i^(l), three ways.

    delta^(L) = seed,   S^(l) = W^(l+1)^T delta^(l+1),   delta^(l) = sigma'(z^(l)) * S^(l)      (20)

`full_matrix_recursion` is exact. It carries M^(l) = d delta^(l) / dz^(l), a matrix an example:

    M^(l) = diag(sigma'' * S^(l)) + diag(sigma') W^(l+1)^T M^(l+1) W^(l+1) diag(sigma'),

M^(L) = 0. `paper_recursion` is (28), the same with only the diagonal of M^(l+1): (27) takes
delta_t^(l+1) to depend on z_i^(l) through z_t^(l+1) alone, though every z_u^(l+1) moves with
z_i^(l). M^(L-1) is diagonal, so the last two hidden layers come out exactly, and with them networks
of one or two; further down, the curvature that reaches a neuron through two different neurons above
it is missing. `path_sum` is (31), which is (28) written out.

(29) and (30) have delta / sigma' where S stands here; sigma' is 0 somewhere for beta >= 1, S is
finite.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rctaf_jax.activations import Activation
from rctaf_jax.errors import InputError

from .dense import Layer

MOST_PATHS = 10**6


class HiddenTerms(NamedTuple):
    """What one hidden layer contributes, for one example or for many.

    Attributes:
      weight_above: W^(l+1).
      slope: sigma'(z^(l)).
      curvature: sigma''(z^(l)).
      back: S^(l), the derivative with respect to h^(l).
    """

    weight_above: Float[Array, "n_above n_l"]
    slope: Float[Array, "*N n_l"]
    curvature: Float[Array, "*N n_l"]
    back: Float[Array, "*N n_l"]

    @property
    def delta(self) -> Float[Array, "*N n_l"]:
        """delta^(l), the derivative with respect to z^(l), (20)."""
        return self.slope * self.back


Recursion = Callable[[Sequence[HiddenTerms]], list[Float[Array, "*N n_l"]]]
"""From the terms of all hidden layers to D^(1), ..., D^(L-1)."""


def hidden_terms(
    layers: Sequence[Layer],
    activation: Activation,
    pre_activations: Sequence[Float[Array, "*N n_l"]],
    seed: Float[Array, "*N C"],
) -> list[HiddenTerms]:
    """The terms of every hidden layer, from the last one backward, (20).

    Args:
      layers: (W, b) for each layer.
      activation: sigma; its derivatives are closed forms.
      pre_activations: z^(1), ..., z^(L), as `dense.forward` gives them.
      seed: delta^(L), 1 for the paper's single output. With several outputs one gets
          sum_c seed_c df_c/dz, since everything is linear in it.

    Example, delta = sigma'(0) W^(2) = 3 / 2:
      >>> from rctaf_jax.activations import parse_activation
      >>> layers = [Layer(jnp.ones((1, 1)), jnp.zeros(1)), Layer(jnp.full((1, 1), 3.0), 0.0)]
      >>> terms = hidden_terms(layers, parse_activation("swish"), [jnp.zeros(1)] * 2, jnp.ones(1))
      >>> print(terms[0].delta)
      [1.5]
    """
    delta, terms = seed, []
    for layer, z in zip(reversed(layers[1:]), reversed(pre_activations[:-1]), strict=True):
        slope, curvature = activation.derivative(z, 1), activation.derivative(z, 2)
        terms.append(HiddenTerms(layer.weight, slope, curvature, delta @ layer.weight))
        delta = terms[-1].delta
    return terms[::-1]


def paper_recursion(terms: Sequence[HiddenTerms]) -> list[Float[Array, "*N n_l"]]:
    """D by the paper's recursion, (28); exact for the last two hidden layers only.

    D_i^(l) = sigma''(z_i^(l)) S_i^(l) + sigma'(z_i^(l))^2 sum_t D_t^(l+1) (W_ti^(l+1))^2

    Args:
      terms: of all hidden layers, the first one first.
    """
    above, diagonals = _zero_above(terms, 1), []
    for weight, slope, curvature, back in reversed(terms):
        above = curvature * back + jnp.square(slope) * (above @ jnp.square(weight))
        diagonals.append(above)
    return diagonals[::-1]


def full_matrix_recursion(terms: Sequence[HiddenTerms]) -> list[Float[Array, "*N n_l"]]:
    """D exactly, as the diagonals of M^(l) in the module's docstring.

    It takes n_l^2 numbers for each example where `paper_recursion` takes n_l.

    Args:
      terms: of all hidden layers, the first one first.
    """
    matrix, diagonals = _zero_above(terms, 2), []
    for weight, slope, curvature, back in reversed(terms):
        through = slope[..., :, None] * (weight.T @ matrix @ weight) * slope[..., None, :]
        own = (curvature * back)[..., None] * jnp.eye(back.shape[-1], dtype=back.dtype)
        matrix = own + through
        diagonals.append(jnp.diagonal(matrix, axis1=-2, axis2=-1))
    return diagonals[::-1]


def path_sum(terms: Sequence[HiddenTerms]) -> list[Float[Array, "*N n_l"]]:
    """D as a sum over paths, (31): equal to `paper_recursion`, for tiny networks.

    D_i^(l) = sum_r sum over all paths i = i_l, i_{l+1}, ..., i_r of

        sigma''(z_{i_r}^(r)) S_{i_r}^(r) prod_{s=l}^{r-1} sigma'(z_{i_s}^(s))^2 (W_{i_{s+1} i_s})^2.

    Args:
      terms: of all hidden layers, the first one first.

    Raises:
      InputError: if there are more than a million paths; their number grows with the product of
          the layers' widths.
    """
    widths = [term.weight_above.shape[1] for term in terms]
    num_layers = len(terms)
    num_paths = sum(
        math.prod(widths[first : last + 1])
        for first in range(num_layers)
        for last in range(first, num_layers)
    )
    if num_paths > MOST_PATHS:
        raise InputError(
            f"hidden layers of {widths} neurons have {num_paths} paths; a sum over paths takes "
            f"{MOST_PATHS} at most"
        )
    return [
        functools.reduce(
            jnp.add, (_paths_from(terms[first:last]) for last in range(first + 1, num_layers + 1))
        )
        for first in range(num_layers)
    ]


def _paths_from(terms: Sequence[HiddenTerms]) -> Float[Array, "*N n_l"]:
    """The sum over all paths from each neuron of the first of these layers to the last one."""
    widths = [term.weight_above.shape[1] for term in terms]
    paths = np.indices(widths).reshape(len(widths), -1)  # [layer, path]
    end = terms[-1]
    product = (end.curvature * end.back)[..., paths[-1]]
    for term, here, above in zip(terms, paths, paths[1:], strict=False):
        product *= jnp.square(term.slope[..., here] * term.weight_above[above, here])
    return product.reshape(*product.shape[:-1], widths[0], -1).sum(-1)


def _zero_above(terms: Sequence[HiddenTerms], rank: int) -> Array:
    """D^(L) = 0 (rank 1) or M^(L) = 0 (rank 2), of the outputs; any zero without hidden layers."""
    shape = [len(term.weight_above) for term in terms[-1:]] * rank
    return jnp.zeros(shape, terms[-1].back.dtype if terms else None)
