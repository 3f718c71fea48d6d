"""A smooth curve through means over log curvature, and where it peaks.

The curve is the natural cubic smoothing spline (`scipy.interpolate.make_smoothing_spline`) whose
smoothing is fixed by its effective number of parameters, the trace of the matrix that maps values
to fitted values: 5, or two fewer than the points where there are few. It is therefore linear in
the values, and the same matrix fits every draw. Unlike a parabola, it does not have to peak
near the middle of a curve that rises and then stays level.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NUM_PARAMETERS = 5.0
LEAST_POINTS = 5
_NUM_PLACES = 401
_LOG_LAMBDA = (-12.0, 12.0)


class Peaks(NamedTuple):
    """Where a curve and its draws are highest.

    Attributes:
      place: curvature of the measured curve's maximum.
      draws: of each draw's.
      interval: the middle 95% of the draws.
      edge: "smallest" or "largest" if `place` is at that end of the curvatures tried, else None.
    """

    place: float
    draws: Float[np.ndarray, " B"]
    interval: tuple[float, float]
    edge: str | None

    def probability(self, low: float, high: float) -> float:
        """Share of draws between the two."""
        return float(np.mean((self.draws >= low) & (self.draws <= high)))


def effective_size(num_points: int) -> float | None:
    """Effective parameters of the curve through so many points; None if they are too few.

    >>> effective_size(4), effective_size(5), effective_size(50)
    (None, 3.0, 5.0)
    """
    return None if num_points < LEAST_POINTS else min(NUM_PARAMETERS, num_points - 2.0)


def smoother(
    curvatures: Float[np.ndarray, " n"], places: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "m n"]:
    """The matrix that maps values at `curvatures` (rising) to the smooth curve at `places`."""
    return _smoother(tuple(map(float, curvatures)), tuple(map(float, places)))


@functools.lru_cache(maxsize=64)
def _smoother(at_curvatures: tuple[float, ...], at_places: tuple[float, ...]) -> np.ndarray:
    """What `smoother` gives; kept, since the curves of a study have the same curvatures."""
    from scipy.optimize import brentq  # a third of a second, which only verdicts pay

    curvatures, places = np.array(at_curvatures), np.array(at_places)
    x = np.log(curvatures)
    x = (x - x[0]) / (x[-1] - x[0])
    at = (np.log(places) - np.log(curvatures[0])) / np.log(curvatures[-1] / curvatures[0])
    wanted = effective_size(len(x))
    assert wanted is not None  # callers ask `effective_size` first

    def surplus(log_lambda: float) -> float:
        return float(np.trace(_matrix(x, x, 10.0**log_lambda))) - wanted

    return _matrix(x, at, 10.0 ** brentq(surplus, *_LOG_LAMBDA, xtol=1e-3))


def _matrix(
    x: Float[np.ndarray, " n"], at: Float[np.ndarray, " m"], smoothing: float
) -> Float[np.ndarray, "m n"]:
    """A smoothing spline's values at `at` for each unit vector of values at `x`."""
    from scipy.interpolate import make_smoothing_spline

    matrix: np.ndarray = make_smoothing_spline(x, np.eye(len(x)), lam=smoothing)(at)
    return matrix


def find_peaks(
    curvatures: Float[np.ndarray, " n"],
    means: Float[np.ndarray, " n"],
    draws: Float[np.ndarray, "B n"],
) -> Peaks:
    """The highest place of the smooth curve, within the curvatures tried."""
    places = np.geomspace(curvatures[0], curvatures[-1], _NUM_PLACES)
    matrix = smoother(curvatures, places)
    best = int(np.argmax(matrix @ means))
    drawn = places[np.argmax(draws @ matrix.T, axis=1)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    edge = {0: "smallest", _NUM_PLACES - 1: "largest"}.get(best)
    return Peaks(float(places[best]), drawn, (float(low), float(high)), edge)
