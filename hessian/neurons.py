"""The exact diagonal of a dense network's Hessian, one product for each neuron.

An offset o_i^(l) added to the pre-activation z_i^(l) acts like every parameter of its neuron, so

    H_kk = (1/N) sum_n c_k^2 d^2 loss_n / (do_i^(l))^2,      c_k = h_j^(l-1) or 1            (21)

and examples do not interact: one product serves all of them at once. Three hidden layers of 16 take
49 products instead of 705.
"""

from collections.abc import Sequence
from itertools import accumulate

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError

from .dense import (
    Layer,
    OutputLosses,
    Pointwise,
    Targets,
    check_inputs,
    check_layers,
    forward,
    to_parameters,
)
from .exact import fitting_chunk, map_in_chunks


def neuron_diagonal(
    losses: OutputLosses,
    layers: Sequence[Layer],
    activation: Pointwise,
    inputs: Float[Array, "N n_0"],
    targets: Targets,
    *,
    chunk_size: int | None = None,
) -> list[Layer]:
    """The diagonal of the Hessian of a dense network's mean loss.

    Equal to `exact_diagonal` to rounding. The gradient with respect to the offsets is linearised
    once and applied to `chunk_size` neurons at a time.

    Args:
      losses: from outputs [N, C] and targets to one loss for each example, of any form; an
          example's loss must depend on its own outputs only. Those of `rctaf_jax.losses`, and
          `squared_error`.
      layers: (W^(l), b^(l)) for each layer, `layers_from_mlp` makes them. Each weight is a
          parameter of its own and is used once for each example; other networks are refused.
      activation: sigma, elementwise, after every layer but the last; an `Activation` will do.
      inputs: x, N of them.
      targets: [N, ...], what `losses` takes.
      chunk_size: neurons at a time, at most: memory is that of the pre-activations times this
          number. None takes 64, or fewer where they exceed 256 MB.

    Returns:
      H_kk, like layers; `mlp_from_layers` puts them in the tree of the MLP.

    Raises:
      InputError: if layers are not dense (convolutions), shapes do not fit, losses are not one for
          each example, or chunk_size is less than 1.

    Example, the mean of x^2 for the weights, and 1:
      >>> from rctaf_jax.hessian import squared_error
      >>> x = jnp.array([[1.0], [3.0]])
      >>> linear = [Layer(jnp.ones((1, 1)), jnp.zeros(1))]
      >>> diagonal = neuron_diagonal(squared_error, linear, jnp.tanh, x, jnp.zeros((2, 1)))
      >>> float(diagonal[0].weight[0, 0]), float(diagonal[0].bias[0])
      (5.0, 1.0)
    """
    layers = check_layers(layers)
    check_inputs(layers, inputs, targets)

    @jax.jit
    def diagonal(
        layers: list[Layer], inputs: Float[Array, "N n_0"], targets: Targets
    ) -> list[Layer]:
        with jax.default_matmul_precision("highest"):
            curvatures = _offset_curvatures(losses, layers, activation, inputs, targets, chunk_size)
            return to_parameters(curvatures, forward(layers, activation, inputs).inputs)

    return diagonal(layers, inputs, targets)


def _offset_curvatures(
    losses: OutputLosses,
    layers: list[Layer],
    activation: Pointwise,
    inputs: Float[Array, "N n_0"],
    targets: Targets,
    chunk_size: int | None,
) -> list[Float[Array, "N n_l"]]:
    """d^2 loss_n / (do_i^(l))^2 for each layer."""
    ends = list(accumulate(layer.bias.size for layer in layers))

    def total_loss(offsets: Float[Array, "neurons N"]) -> Float[Array, ""]:
        parts = jnp.split(offsets, ends[:-1])
        # An offset of its own for each example is a bias of its own.
        shifted = [Layer(w, b + part.T) for (w, b), part in zip(layers, parts, strict=True)]
        each = losses(forward(shifted, activation, inputs).pre_activations[-1], targets)
        if each.shape != (len(inputs),):
            raise InputError(
                f"got losses of shape {each.shape} for {len(inputs)} examples: expected one for "
                "each, not their mean"
            )
        return jnp.sum(each)

    dtype = jnp.result_type(inputs, *jax.tree.leaves(layers))
    zeros = jnp.zeros((ends[-1], len(inputs)), dtype)
    _, product = jax.linearize(jax.grad(total_loss), zeros)

    def curvature(neuron: Int[Array, ""]) -> Float[Array, " N"]:
        return product(zeros.at[neuron].set(1))[neuron]

    chunk = fitting_chunk(chunk_size, ends[-1], zeros.size * dtype.itemsize)
    rows = map_in_chunks(curvature, jnp.arange(ends[-1]), chunk)
    return [part.T for part in jnp.split(rows, ends[:-1])]
