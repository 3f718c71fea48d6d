"""A trained network as everything that measures one takes it, wherever it came from."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rctaf_jax.activations import Activation, parse_activation
from rctaf_jax.errors import InputError

from .registry import Model, Variables, create
from .table import first_channels, model_kind

ApplyLogits = Callable[[Any, Float[Array, "batch height width channels"]], Array]


class Network(NamedTuple):
    """A function from images to logits, its variables, and what is known of it.

    `network(images)` are the logits; `network.apply` with other variables is the same program.

    Attributes:
      apply: `(variables, images)` to logits [batch, classes] in inference mode; images [batch,
          height, width, channels] with pixels in [0, 1].
      variables: a tree of arrays. "params", where it has such a part, is what a Hessian is of.
      model: the name that `create` takes; None for a function of one's own.
      width: as `create` takes it.
      num_classes: number of logits; None where only a call would tell.
      activation: its only nonlinearity; None where it is not known.
      facts: what results say of its origin, for JSON.
      in_bfloat16: as `apply`, computing in bfloat16; None where there is no such copy.
      is_program: whether it has derivatives in reverse mode only, and no `vmap`; see `program`.
    """

    apply: ApplyLogits
    variables: Any
    model: str | None = None
    width: float = 1.0
    num_classes: int | None = None
    activation: Activation | None = None
    facts: Mapping[str, Any] = {}
    in_bfloat16: ApplyLogits | None = None
    is_program: bool = False

    def __call__(
        self, images: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch num_classes"]:
        """Logits of images with pixels in [0, 1]."""
        return self.apply(self.variables, images)


def network_of(
    name: str,
    variables: Variables,
    activation: str | Activation,
    facts: Mapping[str, Any],
    *,
    width: float | None = None,
    num_classes: int | None = None,
) -> Network:
    """The network of a model's name and its variables, computing in float32.

    Args:
      name: as `create` takes it.
      variables: as its `init` makes them.
      activation: the only nonlinearity; its sharpness is that of the variables.
      facts: see `Network`.
      width, num_classes: as `create` takes them; None finds them in the variables (the width in the
        first layer's channels, of which it must be an exact multiple). A model of one's own needs
        `num_classes`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> variables = create("mlp-1x8", num_classes=3, activation="relu").init(
      ...     jax.random.key(0), (2, 2, 1))
      >>> network_of("mlp-1x8", variables, "relu", {})(jnp.zeros((5, 2, 2, 1))).shape
      (5, 3)
    """
    found = parse_activation(activation)
    is_own = model_kind(name) == "own"
    if num_classes is None:
        if is_own:
            raise InputError(f"model {name} is one of your own: give num_classes too.")
        num_classes = variables["params"]["dense"]["bias"].shape[0]
    if width is None:
        width = 1.0 if is_own else _width(name, variables)
    make = functools.partial(create, name, num_classes=num_classes, activation=found, width=width)
    half = None if is_own else _logits_of(make(dtype=jnp.bfloat16))
    return Network(_logits_of(make()), variables, name, width, num_classes, found, facts, half)


def _logits_of(model: Model) -> ApplyLogits:
    def apply(variables: Variables, images: Array) -> Array:
        return model.apply(variables, images)[0]

    return apply


def _width(name: str, variables: Variables) -> float:
    """The factor on all channels, from the first layer's."""
    params = variables["params"]
    first = params.get("stem") or params["hidden1"]
    return float(first["kernel"].shape[-1] / first_channels(name))
