"""Arrays that a function closes over, handed to it as an argument.

A compiler takes what a function closes over, such as a network's weights, for constants: 50 MB of
them are compiled for minutes where the same weights as an argument cost nothing. `Lifted` finds
them in the function's jaxpr, so that whoever compiles the function can pass them in.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal


class Lifted:
    """A function `function(variables, *rest)`, of the arrays that it closes over, too.

    Calls with arguments of other shapes are traced anew, as under `jax.jit`; an array that only
    such a call meets is a constant of it. What stands inside another transformation than `jax.jit`,
    such as a `jax.custom_jvp`, stays a constant.

    Args:
      function: of trees of arrays, to a tree of arrays; it can be traced.

    Example:
      >>> weights = jax.numpy.arange(3.0)
      >>> affine = Lifted(lambda bias, x: weights * x + bias)
      >>> arrays, bias = affine.with_arrays(1.0, 2.0)
      >>> print(jax.jit(affine)((arrays, bias), 2.0), jax.jit(affine)(([10 * weights], bias), 2.0))
      [1. 3. 5.] [ 1. 21. 41.]
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._known: list[Any] | None = None

    def with_arrays(self, variables: Any, *rest: Any) -> tuple[list[Any], Any]:
        """What the function closes over, and its variables: one argument of all calls.

        Args:
          variables: of this call.
          rest: arguments, or their shapes and types; the first ones trace the function.
        """
        if self._known is None:
            traced = jax.make_jaxpr(self.function)(variables, *rest)
            self._known = list({_identity(found): found for found in _arrays_of(traced)}.values())
        return self._known, variables

    def __call__(self, given: tuple[Sequence[Any], Any], *rest: Any) -> Any:
        """The function, with other arrays in the places of those that `with_arrays` found.

        Args:
          given: as `with_arrays` returns it.
          rest: the function's other arguments.
        """
        arrays, variables = given
        jaxpr, shape = jax.make_jaxpr(self.function, return_shape=True)(variables, *rest)
        places = {_identity(a): one for a, one in zip(self._known or (), arrays, strict=True)}
        leaves = _evaluate(jaxpr, places, jax.tree.leaves((variables, *rest)))
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)


def _is_call(equation: Any) -> bool:
    """Whether it calls a function under `jax.jit`."""
    return equation.primitive.name in ("jit", "pjit")


def _arrays_of(closed: ClosedJaxpr) -> Iterator[Any]:
    """Arrays of a jaxpr, and of those that it calls."""
    yield from (const for const in closed.consts if np.ndim(const))
    for equation in closed.jaxpr.eqns:
        if _is_call(equation):
            yield from _arrays_of(equation.params["jaxpr"])


def _identity(array: Any) -> Any:
    """What tells an array from others that live at the same time."""
    if isinstance(array, jax.Array):
        return id(array)
    # JAX wraps NumPy's arrays anew in each trace.
    memory = np.asarray(array)
    pointer = memory.__array_interface__["data"][0]
    return (pointer, memory.shape, memory.strides, memory.dtype.str)


def _evaluate(closed: ClosedJaxpr, places: dict[Any, Any], arguments: Sequence[Any]) -> list[Any]:
    """A jaxpr's results, where arrays of `places` are others."""
    values: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    consts = [places.get(_identity(c), c) if np.ndim(c) else c for c in closed.consts]
    values.update(zip(closed.jaxpr.constvars, consts, strict=True))
    values.update(zip(closed.jaxpr.invars, arguments, strict=True))
    for equation in closed.jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        if _is_call(equation):
            results = _evaluate(equation.params["jaxpr"], places, inputs)
        else:
            parameters = equation.primitive.get_bind_params(equation.params)
            with equation.ctx.manager:
                results = equation.primitive.bind(*inputs, **parameters)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]
