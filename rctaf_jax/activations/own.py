"""An activation of one's own, from a plain function: derivatives by autodiff, curvature by search.

    register_activation("wave", lambda x: x + jnp.sin(x) / 4)

After that "wave" is a name like "gelu": it trains, sweeps, reports and is attacked. On the command
line, `package.module:name` is a name of any such function.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rctaf_jax.errors import InputError
from rctaf_jax.plugins import describe_error

from .baselines import BASELINES, SYNONYMS, Baseline, Evaluator
from .curvature import Curvature

Elementwise = Callable[[Array], Array]

FARTHEST = 1e4
"""|x| up to which curvature is looked for."""
NUM_CELLS = 20_000
MOST_HALVINGS = 60
MOST_CELLS = 200_000
_TOLERANCE = 1e-9


def register_activation(
    name: str,
    function: Elementwise,
    *,
    derivatives: Sequence[Elementwise] = (),
    curvature: float | Curvature | None = None,
    label: str | None = None,
) -> None:
    """Make a function an activation by name, in this process.

    Args:
      name: for `parse_activation`; lower case, without spaces. What has it already is replaced,
          unless it is one of ours.
      function: of each entry of an array of any floating type, in JAX.
      derivatives: closed forms of the first, second, ... derivative, as many as there are; all
          further ones are by autodiff.
      curvature: max |sigma''|; None finds it, see `find_curvature`.
      label: as people write it.

    Raises:
      InputError: the name is one of ours or no name, the function does not act on each entry, or
        its curvature cannot be found.

    Example:
      >>> from rctaf_jax import parse_activation
      >>> register_activation("example-square", lambda x: x * x / 2)
      >>> parse_activation("example-square").max_curvature
      1.0
    """
    if not name or name != "".join(name.lower().split()) or "," in name or "=" in name:
        raise InputError(
            f"activation name {name!r}: it must be in lower case, without spaces, commas and =."
        )
    key = name.replace("-", "_")
    if key in _BUILT_IN or name in SYNONYMS or key.startswith("rct_af"):
        raise InputError(f"activation name {name!r} is one of this library's: choose another.")
    BASELINES[name] = make_row(name, function, derivatives, curvature, label)


def make_row(
    name: str,
    function: Elementwise,
    derivatives: Sequence[Elementwise] = (),
    curvature: float | Curvature | None = None,
    label: str | None = None,
) -> Baseline:
    """All that is known of a function of one's own; the arguments are `register_activation`'s.

    Raises:
      InputError: the function does not act on each entry, or its curvature cannot be found.
    """
    check_elementwise(name, function)
    if curvature is None:
        found = find_curvature(function, *derivatives[:2])
    elif isinstance(curvature, Curvature):
        found = curvature
    else:
        found = Curvature(float(curvature), math.nan, "as stated")
    if math.isnan(found.value) or found.value < 0:
        raise InputError(f"activation {name!r}: its curvature is {found.value}; it must be >= 0.")
    return Baseline(label or name, evaluator((function, *derivatives)), found)


def evaluator(known: Sequence[Elementwise]) -> Evaluator:
    """(x, n) to the n-th derivative: one of the known ones, or by autodiff of the last."""

    def evaluate(x: Array, order: int) -> Array:
        function = known[min(order, len(known) - 1)]
        for _ in range(order - len(known) + 1):
            function = derivative_of(function)
        return jnp.asarray(function(x), x.dtype)

    return evaluate


def derivative_of(function: Elementwise) -> Elementwise:
    """The derivative of a function of each entry, by autodiff.

    Example:
      >>> float(derivative_of(derivative_of(jnp.sin))(jnp.array(0.0)))
      -0.0
    """

    def derivative(x: Array) -> Array:
        return jax.jvp(function, (x,), (jnp.ones_like(x),))[1]

    return derivative


def check_elementwise(name: str, function: Elementwise) -> None:
    """Refuse a function that does more, or less, than act on each entry.

    Raises:
      InputError: naming what it does instead.
    """
    x = jnp.array([[-2.0, -0.3, 0.0], [0.4, 1.0, 3.0]], jnp.float32)
    try:
        y = function(x)
        shape = getattr(y, "shape", None)
        if shape == x.shape:
            alone = jnp.concatenate([function(entry) for entry in x.reshape(-1, 1)])
    except Exception as error:  # it is somebody's own
        raise InputError(
            f"activation {name!r} fails for an array: {describe_error(error)}"
        ) from error
    if shape == x.shape:
        try:
            jax.jit(lambda x: jax.grad(lambda x: function(x).sum())(x)).lower(x)
        except Exception as error:
            raise InputError(
                f"activation {name!r} cannot be traced by JAX ({describe_error(error)}): it must "
                "be written with jax.numpy."
            ) from error
    if shape != x.shape:
        raise InputError(
            f"activation {name!r} makes {type(y).__name__ if shape is None else shape} of an "
            f"array of shape {x.shape}: it must act on each entry."
        )
    if not np.allclose(np.ravel(y), alone, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise InputError(
            f"activation {name!r} gives an entry another value alone than among others: it must "
            "act on each entry."
        )
    if not np.isfinite(np.asarray(y)).all():
        raise InputError(f"activation {name!r} is not finite for x = {x.ravel().tolist()}.")


def find_curvature(function: Elementwise, *derivatives: Elementwise) -> Curvature:
    """max |sigma''| on |x| <= 10^4, in float64, with a bound on its error in `note`.

    The range is cut into cells, each halved until the change of sigma' over it is the integral of
    sigma'' (three Gauss points) to 10^-9, and that of sigma the integral of sigma'. What is left
    where no number lies between a cell's ends is a kink or a jump: the curvature is infinite. The
    largest |sigma''| at a cell's ends
    and points is then off by at most the largest |sigma'''| there times half the cell's width.

    Args:
      function: sigma, of each entry.
      derivatives: sigma' and sigma'' in closed form, where they are known.

    Raises:
      InputError: sigma' or sigma'' is not finite somewhere, or the cells become too many.

    Example:
      >>> found = find_curvature(jnp.tanh)
      >>> round(found.value, 6), round(abs(found.location), 4)
      (0.7698, 0.6585)
      >>> find_curvature(jnp.abs).value
      inf
    """
    with jax.enable_x64(True):
        evaluate = evaluator((function, *derivatives))
        sigma, slope, second, third = (jax.jit(lambda x, n=n: evaluate(x, n)) for n in range(4))
        ends = np.sinh(np.linspace(-1, 1, NUM_CELLS + 1) * math.asinh(FARTHEST))
        _, _, jump = _search(sigma, slope, ends)
        if jump is not None:
            return Curvature(math.inf, jump, f"infinite: sigma jumps at {jump:.6g}")
        best, where, kink = _search(slope, second, ends)
        if kink is not None:
            return Curvature(math.inf, kink, f"infinite: sigma' jumps at {kink:.6g}")
        value, place, width = _refine(second, best, where)
        bound = width * float(np.abs(np.asarray(third(jnp.asarray([place]))))[0])
    if value > 1e-6 and abs(place) > 0.99 * FARTHEST and _grows(second, place):
        return Curvature(math.inf, place, f"grows as far as |x| = {FARTHEST:g}")
    note = f"found on |x| <= {FARTHEST:g}, within {max(bound, 1e-12 * value):.1g}"
    return Curvature(value, place, note)


def _search(
    function: Elementwise, derivative: Elementwise, ends: np.ndarray
) -> tuple[float, tuple[float, float], float | None]:
    """The largest |derivative| seen, the cell where, and where the function jumps."""
    low, high = ends[:-1], ends[1:]
    best, where = 0.0, (-1.0, 1.0)
    for _ in range(MOST_HALVINGS):
        points = [low + (high - low) * share for share in (0.0, *_GAUSS, 1.0)]
        values = [_finite(derivative, x) for x in points]
        sizes = np.max(np.abs(values), axis=0)
        if sizes.max() > best:
            cell = int(np.argmax(sizes))
            best, where = float(sizes[cell]), (float(low[cell]), float(high[cell]))
        integral = (high - low) * (5 * values[1] + 8 * values[2] + 5 * values[3]) / 18
        left, right = _finite(function, low), _finite(function, high)
        scale = 1 + np.maximum(np.abs(left), np.abs(right))
        wrong = np.abs(right - left - integral) > _TOLERANCE * scale
        if not wrong.any():
            return best, where, None
        low, high = low[wrong], high[wrong]
        middle = (low + high) / 2
        closed = (middle <= low) | (middle >= high) | (high - low < 1e-13 * (1e-3 + np.abs(low)))
        for place in map(float, low[closed]):
            if _jumps(function, derivative, place):
                return best, where, 0.0 if abs(place) < 1e-12 else place
        low, middle, high = low[~closed], middle[~closed], high[~closed]
        if not len(low):
            return best, where, None
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        if len(low) > MOST_CELLS:
            break
    raise InputError(
        "the curvature cannot be found: a function is not the integral of its derivative in too "
        "many places; state it."
    )


def _jumps(function: Elementwise, derivative: Elementwise, place: float) -> bool:
    """Whether a function differs between both sides of a place, not at the place alone.

    Autodiff may be wrong at a single point, such as 0 for x -> |x| + 2 max(-x, 0).
    """
    step = 1e-9 * (1 + abs(place))
    sides = np.array([place - step, place + step])
    left, right = _finite(function, sides)
    slope = np.abs(_finite(derivative, sides)).max()
    return bool(abs(right - left) > 10 * step * slope + _TOLERANCE * (1 + abs(left)))


_GAUSS = (0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5)


def _finite(function: Elementwise, x: np.ndarray) -> np.ndarray:
    values = np.asarray(function(jnp.asarray(x)), np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise InputError(
            f"the curvature cannot be found: a derivative is not finite at x = {x[bad][0]:.6g}; "
            "state it."
        )
    return values


def _refine(
    second: Elementwise, best: float, cell: tuple[float, float]
) -> tuple[float, float, float]:
    """The maximum around a cell, where it is, and half the last grid's width."""
    low, high = cell
    width = high - low
    low, high = low - width, high + width
    value, place = best, (low + high) / 2
    for _ in range(6):
        x = np.linspace(low, high, 201)
        sizes = np.abs(_finite(second, x))
        top = int(np.argmax(sizes))
        value, place = max(value, float(sizes[top])), float(x[top])
        step = (high - low) / 200
        low, high = place - step, place + step
    return value, place, step / 2


def _grows(second: Elementwise, place: float) -> bool:
    with jax.enable_x64(True):
        here, nearer = np.abs(_finite(second, np.array([place, place / 2])))
    return bool(here > 1.01 * nearer)


_BUILT_IN: frozenset[Any] = frozenset(BASELINES)
