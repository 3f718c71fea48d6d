"""A point of APGD, as its moves in all norms know it."""

from typing import NamedTuple

from jaxtyping import Array, Float

from rctaf_jax.aliases import Pixels


class Iterate(NamedTuple):
    """A point and what the network said there; both are 0 or -inf instead of not finite."""

    x: Pixels
    loss: Float[Array, " B"]
    gradient: Pixels
