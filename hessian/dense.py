"""Dense networks as the paper writes them, with what its Hessian diagonals are made of.

    z^(l) = W^(l) h^(l-1) + b^(l),    h^(l) = sigma(z^(l)),    h^(0) = x,    f = z^(L)         (19)

A parameter theta_k of neuron i in layer l enters the network through z_i^(l) alone, and linearly:
c_k = dz_i^(l)/dtheta_k is h_j^(l-1) for W_ij^(l) and 1 for b_i^(l) (21). So for any loss

    H_kk = (1/N) sum_n c_k^2 d^2 loss_n / (dz_i^(l))^2.

That needs every weight to be used once for each example: convolutions use theirs at every pixel.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from rctaf_jax.aliases import Pointwise
from rctaf_jax.errors import InputError

Targets = Shaped[Array, "N ..."]
OutputLosses = Callable[[Float[Array, "N C"], Targets], Float[Array, " N"]]
"""From outputs and targets to one loss for each example, each from its own outputs only."""


class Layer(NamedTuple):
    """One dense layer, or one value for each of its parameters.

    Attributes:
      weight: W^(l), one row for each neuron.
      bias: b^(l).
    """

    weight: Float[Array, "n_l n_below"]
    bias: Float[Array, " n_l"]


class Forward(NamedTuple):
    """The values that an input takes on its way through a network.

    Attributes:
      inputs: h^(0), ..., h^(L-1), what each layer multiplies; h^(0) is x.
      pre_activations: z^(1), ..., z^(L), the last one f.
    """

    inputs: list[Float[Array, "*N n_l"]]
    pre_activations: list[Float[Array, "*N n_l"]]


def layers_from_mlp(params: Mapping[str, Any]) -> list[Layer]:
    """The layers of the library's MLP, the first one first.

    Args:
      params: `variables["params"]` of a model `mlp-DEPTHxWIDTH`: hidden1, hidden2, ..., dense,
          each with a kernel [inputs, neurons] and a bias.

    Returns:
      L = depth + 1 layers, W^(l) being the kernel transposed.

    Raises:
      InputError: if there are other parameters, such as those of convolutions or BatchNorm.

    Example:
      >>> dense = {"kernel": jnp.zeros((8, 3)), "bias": jnp.zeros(3)}
      >>> hidden = {"kernel": jnp.zeros((5, 8)), "bias": jnp.zeros(8)}
      >>> [layer.weight.shape for layer in layers_from_mlp({"hidden1": hidden, "dense": dense})]
      [(8, 5), (3, 8)]
    """
    names = _mlp_names(len(params))
    if set(params) != set(names):
        raise InputError(
            f"got a network with the parameters {', '.join(sorted(params))}: expected those of a "
            "multilayer perceptron, hidden1, hidden2, ..., dense, since only dense layers use "
            "each weight once for an example"
        )
    layers = [Layer(params[name]["kernel"], params[name]["bias"]) for name in names]
    return check_layers([Layer(jnp.transpose(kernel), bias) for kernel, bias in layers])


def mlp_from_layers(layers: Sequence[Layer]) -> dict[str, dict[str, Array]]:
    """Layers, or one value for each of their parameters, in the tree of the library's MLP.

    Args:
      layers: as `layers_from_mlp` gives them.

    Example:
      >>> tree = mlp_from_layers([Layer(jnp.zeros((3, 5)), jnp.zeros(3))])
      >>> tree["dense"]["kernel"].shape
      (5, 3)
    """
    return {
        name: {"kernel": layer.weight.T, "bias": layer.bias}
        for name, layer in zip(_mlp_names(len(layers)), layers, strict=True)
    }


def _mlp_names(num_layers: int) -> list[str]:
    return [*(f"hidden{i + 1}" for i in range(num_layers - 1)), "dense"]


def check_layers(layers: Sequence[Layer]) -> list[Layer]:
    """Layers as arrays, after a check that they are dense and follow one another.

    Args:
      layers: (W, b) for each layer.

    Raises:
      InputError: if there is none, a weight is no matrix, or the shapes do not follow.
    """
    shapes = [(jnp.shape(weight), jnp.shape(bias)) for weight, bias in layers]
    are_dense = bool(shapes) and all(len(w) == 2 and b == w[:1] for w, b in shapes)
    if not are_dense or any(b != w[1:] for (_, b), (w, _) in pairwise(shapes)):
        raise InputError(
            f"got layers with weights and biases of shapes {shapes}: expected dense layers, "
            "[n_l, n_below] and [n_l] each, n_below being the n_l of the layer before; "
            "convolutions share weights and have no such form"
        )
    return [Layer(jnp.asarray(weight), jnp.asarray(bias)) for weight, bias in layers]


def check_inputs(layers: Sequence[Layer], inputs: Array, targets: Array) -> None:
    """Checks that a dataset fits a network.

    Raises:
      InputError: if inputs are not [N, n_0] with N of at least 1, or targets not [N, ...].
    """
    width = layers[0].weight.shape[1]
    is_matrix = inputs.ndim == 2 and inputs.shape[1] == width and len(inputs) > 0
    if not (is_matrix and targets.shape[:1] == inputs.shape[:1]):
        raise InputError(
            f"got inputs of shape {inputs.shape} and targets of shape {targets.shape}: expected "
            f"[N, {width}] and [N, ...] with N of at least 1"
        )


def forward(layers: Sequence[Layer], activation: Pointwise, x: Float[Array, "*N n_0"]) -> Forward:
    """Inputs and pre-activations of all layers, (19).

    Args:
      layers: (W, b) for each layer.
      activation: sigma, elementwise.
      x: one input, or many.

    Example, f = softplus(0) = log 2:
      >>> from rctaf_jax.activations import parse_activation
      >>> layers = [Layer(jnp.ones((1, 1)), jnp.zeros(1)), Layer(jnp.ones((1, 1)), jnp.zeros(1))]
      >>> softplus = parse_activation("softplus")
      >>> print(forward(layers, softplus, jnp.zeros(1)).pre_activations[-1])
      [0.6931472]
    """
    inputs, pre_activations = [x], [x @ layers[0].weight.T + layers[0].bias]
    for weight, bias in layers[1:]:
        inputs.append(activation(pre_activations[-1]))
        pre_activations.append(inputs[-1] @ weight.T + bias)
    return Forward(inputs, pre_activations)


def to_parameters(
    terms: Sequence[Float[Array, "N n_l"]], inputs: Sequence[Float[Array, "N n_below"]]
) -> list[Layer]:
    """From one term for each neuron to one for each parameter, (1/N) sum_n c_k^2 term_i^(l), (21).

    Args:
      terms: for each layer and example, such as d^2 loss / (dz_i^(l))^2.
      inputs: h^(l-1) for each layer and example, as `forward` gives them.

    Example, c_k^2 = 3^2 for the weight and 1 for the bias:
      >>> to_parameters([jnp.array([[2.0]])], [jnp.array([[3.0]])])
      [Layer(weight=Array([[18.]], dtype=float32), bias=Array([2.], dtype=float32))]
    """
    return [
        Layer(term.T @ jnp.square(h) / len(term), jnp.mean(term, axis=0))
        for term, h in zip(terms, inputs, strict=True)
    ]


def squared_error(outputs: Float[Array, "N C"], targets: Float[Array, "N C"]) -> Float[Array, " N"]:
    """The paper's loss, (1/2) (f - y)^2, summed over the outputs; one value for each example.

    Example:
      >>> print(squared_error(jnp.array([[3.0]]), jnp.array([[1.0]])))
      [2.]
    """
    chex.assert_rank([outputs, targets], 2)
    chex.assert_equal_shape([outputs, targets])
    return jnp.sum(jnp.square(outputs - targets), axis=-1) / 2
