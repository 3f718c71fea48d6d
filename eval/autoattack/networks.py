"""The network under attack: the one that decides, and the one that is searched with.

Both are asked as `(given, images, keys)`, where `given` holds everything that their programs must
not take for constants: variables, and arrays that the functions close over.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rctaf_jax.closed_over import Lifted
from rctaf_jax.errors import InputError
from rctaf_jax.eval.verdict import LogitsFn, NetworkVariables

from .inputs import check_outputs, precision_of


class AttackedNetwork:
    """A network's functions, with logits in 32 bits at least.

    Attributes:
      search: asks the cheaper network; None where the one that decides is searched with.

    Args:
      logits_fn: `(variables, images)` to logits, or `(variables, images, keys)` of a random one.
      search_fn: `(variables, images)` to logits, cheaper. Left out, an accelerator searches with
          `logits_fn` at its own precision, and a CPU has nothing to save.
      is_random: whether `logits_fn` takes keys.

    Raises:
      InputError: if a random network has a search of its own.
    """

    def __init__(
        self, logits_fn: Callable[..., Array], search_fn: LogitsFn | None, is_random: bool
    ) -> None:
        if search_fn is not None and is_random:
            raise InputError("a network of random answers has no search of its own: leave it out")
        self._logits_fn, self._is_random = logits_fn, is_random
        self._decides = Lifted(_answering(logits_fn, is_random))
        self._searches = self._decides
        if search_fn is not None:
            self._searches = Lifted(_answering(search_fn, False))
        is_split = search_fn is not None or (jax.default_backend() != "cpu" and not is_random)
        self.search = self._search if is_split else None

    def check(
        self,
        variables: NetworkVariables,
        images: Float[np.ndarray, "N H W C"],
        keys: Array,
        labels: Int[np.ndarray, " N"],
    ) -> tuple[int, float]:
        """The number of classes, and machine epsilon of the answers' own type.

        Raises:
          InputError: if outputs have another shape than (batch, classes), or labels do not fit.
        """
        num_classes = check_outputs(self._decides.function, variables, images, keys, labels)
        searched = check_outputs(self._searches.function, variables, images, keys, 0 * labels)
        if searched != num_classes:
            raise InputError(f"search has {searched} classes: expected the network's {num_classes}")
        return num_classes, precision_of(self._logits_fn, variables, images, keys, self._is_random)

    def given(
        self, variables: NetworkVariables, images: Float[np.ndarray, "N H W C"], keys: Array
    ) -> tuple[Any, Any]:
        """What the two functions take first."""
        asked = (variables, images[:1], keys[:1])
        return self._decides.with_arrays(*asked), self._searches.with_arrays(*asked)

    def decide(self, given: tuple[Any, Any], images: Array, keys: Array) -> Array:
        """Logits whose verdicts count."""
        return self._decides(given[0], images, keys)

    def _search(self, given: tuple[Any, Any], images: Array, keys: Array) -> Array:
        return self._searches(given[1], images, keys)


def _answering(logits_fn: Callable[..., Array], takes_keys: bool) -> Callable[..., Any]:
    """(variables, images, keys) to logits of 32 bits at least."""

    def answer(variables: NetworkVariables, images: Array, keys: Array) -> Any:
        more = (keys,) if takes_keys else ()
        return jax.tree.map(_widened, logits_fn(variables, images, *more))

    return answer


def _widened(logits: Array) -> Array:
    """In float32 at least, since a loss in 16 bits is rounded, and files do not know bfloat16."""
    logits = jnp.asarray(logits)  # a network may return what is none: see `inputs.check_outputs`
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
