"""The Hessian diagonal of a multilayer perceptron by the formulas of the paper's appendix.

With the loss (1/2) (f - y)^2 and theta_k a parameter of neuron i in layer l,

    H_kk = (df/dtheta_k)^2 + (f - y) d^2f/dtheta_k^2                                             (9)
         = (delta_i^(l) c_k)^2 + (f - y) c_k^2 D_i^(l),                                         (32)

delta from (20), c_k from (21), D from `appendix_terms`: the paper's recursion (28), which makes
this (32), the sum over paths (31), which makes it (33), or the exact one. The first term is the
Gauss-Newton part. The second is linear in sigma'' and scaled by the residual, so an error of D
hides where a network fits its data: compare diagonals at large residuals, and layer by layer.

With several outputs and any loss, r = dloss/df takes the place of f - y and A = d^2 loss/df^2 that
of 1:

    H_kk = c_k^2 ( sum_cd delta_ci A_cd delta_di + D_i ),    D from the seed delta^(L) = r.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rctaf_jax.activations import Activation
from rctaf_jax.errors import InputError

from .appendix_terms import HiddenTerms, Recursion, hidden_terms
from .dense import Layer, OutputLosses, Targets, check_inputs, check_layers, forward, to_parameters


class DiagonalParts(NamedTuple):
    """H_kk in two parts, each like the layers.

    Attributes:
      gauss_newton: the part with first derivatives of the network only, >= 0 for a convex loss.
      curvature: the part with sigma''.
    """

    gauss_newton: list[Layer]
    curvature: list[Layer]

    @property
    def total(self) -> list[Layer]:
        """H_kk."""
        return jax.tree.map(jnp.add, self.gauss_newton, self.curvature)


def appendix_diagonal(
    recursion: Recursion,
    losses: OutputLosses,
    layers: Sequence[Layer],
    activation: Activation,
    inputs: Float[Array, "N n_0"],
    targets: Targets,
) -> DiagonalParts:
    """The diagonal of the Hessian of a multilayer perceptron's mean loss, in its two parts.

    It takes one forward pass and a backward pass for each output.

    Args:
      recursion: `full_matrix_recursion`, exact; `paper_recursion` for (32), exact for one or two
          hidden layers; or `path_sum` for (33), equal to (32).
      losses: from outputs [N, C] and targets to one loss for each example, each from its own
          outputs only: `squared_error` is the paper's.
      layers: (W^(l), b^(l)) for each layer.
      activation: sigma, after every layer but the last. Where sigma has a kink its second
          derivative counts as 0. In compiled code its alpha may be data:
          `dataclasses.replace(activation, alpha=alpha)`.
      inputs: x, N of them.
      targets: [N, ...], what `losses` takes.

    Returns:
      The mean over examples of both parts.

    Raises:
      InputError: if layers are not dense or shapes do not fit.

    Example, a single neuron with f = sigma(z), z = 0, y = 1: sigma'(0)^2 + (f - y) sigma''(0):
      >>> from rctaf_jax.activations import parse_activation
      >>> from rctaf_jax.hessian import paper_recursion, squared_error
      >>> layers = [Layer(jnp.ones((1, 1)), jnp.zeros(1)), Layer(jnp.ones((1, 1)), jnp.zeros(1))]
      >>> swish, x, y = parse_activation("swish"), jnp.zeros((1, 1)), jnp.ones((1, 1))
      >>> parts = appendix_diagonal(paper_recursion, squared_error, layers, swish, x, y)
      >>> float(parts.gauss_newton[0].bias[0]), float(parts.curvature[0].bias[0])
      (0.25, -0.5)
    """
    layers = check_layers(layers)
    check_inputs(layers, inputs, targets)

    @jax.jit
    def parts(
        layers: list[Layer], inputs: Float[Array, "N n_0"], targets: Targets
    ) -> DiagonalParts:
        with jax.default_matmul_precision("highest"):
            h, z = forward(layers, activation, inputs)
            residual, metric = _loss_derivatives(losses, z[-1], targets)
            terms = hidden_terms(layers, activation, z, residual)
            curvature = [*recursion(terms), jnp.zeros_like(z[-1])]  # (11)
            gauss_newton = _gauss_newton(terms, metric)
            return DiagonalParts(to_parameters(gauss_newton, h), to_parameters(curvature, h))

    return parts(layers, inputs, targets)


def _loss_derivatives(
    losses: OutputLosses, outputs: Float[Array, "N C"], targets: Targets
) -> tuple[Float[Array, "N C"], Float[Array, "N C C"]]:
    """r = dloss/df and A = d^2 loss/df^2 of each example."""

    def loss(output: Float[Array, " C"], target: Array) -> Float[Array, ""]:
        return losses(output[None], target[None])[0]

    return jax.vmap(jax.grad(loss))(outputs, targets), jax.vmap(jax.hessian(loss))(outputs, targets)


def _gauss_newton(
    terms: Sequence[HiddenTerms], metric: Float[Array, "N C C"]
) -> list[Float[Array, "N n_l"]]:
    """sum_cd delta_ci A_cd delta_di for each layer, the first term of (32)."""
    # delta by (20) as in `hidden_terms`, from each output's own seed; [C, N, n_l].
    deltas = [jnp.eye(metric.shape[-1], dtype=metric.dtype)[:, None]]
    for term in reversed(terms):
        deltas.append(term.slope * (deltas[-1] @ term.weight_above))
    return [jnp.einsum("cni,ncd,dni->ni", delta, metric, delta) for delta in reversed(deltas)]


def single_hidden_layer_diagonal(
    layers: Sequence[Layer],
    activation: Activation,
    inputs: Float[Array, "N n_0"],
    targets: Float[Array, "N 1"],
) -> list[Layer]:
    """The diagonal for one hidden layer, one output and the loss (1/2) (f - y)^2, literally.

    With w = W^(2) and f = w h + b^(2), h = sigma(z) (10), each entry is the mean over examples of

        h_i^2 and 1                                                  for w_i and b^(2)          (12)
        (w_i sigma'(z_i) x_j)^2 + (f - y) w_i sigma''(z_i) x_j^2     for W_ij^(1)               (15)
        (w_i sigma'(z_i))^2 + (f - y) w_i sigma''(z_i)               for b_i^(1)                (18)

    Args:
      layers: (W^(1), b^(1)), (W^(2), b^(2)), the second with one output.
      activation: sigma.
      inputs: x, N of them.
      targets: y.

    Returns:
      H_kk, like layers.

    Raises:
      InputError: if there is not one hidden layer and one output, or shapes do not fit.
    """
    layers = check_layers(layers)
    check_inputs(layers, inputs, targets)
    if len(layers) != 2 or layers[1].bias.shape != (1,) or targets.shape[1:] != (1,):
        raise InputError(
            f"got {len(layers) - 1} hidden layers, {layers[-1].bias.size} outputs and targets of "
            f"shape {targets.shape}: expected one hidden layer, one output and targets [N, 1]"
        )
    (hidden_weight, hidden_bias), (weight, bias) = layers
    z = inputs @ hidden_weight.T + hidden_bias
    h, slope, curvature = (activation.derivative(z, order) for order in range(3))
    residual = h @ weight.T + bias - targets
    bias_entry = jnp.square(weight * slope) + residual * weight * curvature
    weight_entry = bias_entry[:, :, None] * jnp.square(inputs)[:, None, :]
    return [
        Layer(jnp.mean(weight_entry, axis=0), jnp.mean(bias_entry, axis=0)),
        Layer(jnp.mean(jnp.square(h), axis=0)[None], jnp.ones_like(bias)),
    ]
