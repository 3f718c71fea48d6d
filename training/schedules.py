"""Learning-rate schedules: multipliers of the peak as a function of the step.

All scale with the length of training, so that a shorter run keeps the shape.
"""

from collections.abc import Callable

import optax
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]
Decays = tuple[float, ...]


def constant(num_steps: int, decays: Decays) -> Schedule:
    """1 throughout."""
    return optax.constant_schedule(1.0)


def cosine(num_steps: int, decays: Decays) -> Schedule:
    """(1 + cos(pi t / T)) / 2 at step t of T."""
    return optax.cosine_decay_schedule(1.0, num_steps)


def step(num_steps: int, decays: Decays) -> Schedule:
    """1, divided by 10 at each of `decays`, shares of the run."""
    boundaries = {round(share * num_steps): 0.1 for share in decays}
    return optax.piecewise_constant_schedule(1.0, boundaries)


SCHEDULES: dict[str, Callable[[int, Decays], Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
}


def schedule_named(name: str, num_steps: int, decays: Decays = ()) -> Schedule:
    """The schedule over `num_steps` optimiser steps; `decays` matter to `step` alone.

    Raises:
      InputError: for a name that is not in the table.
    """
    if name not in SCHEDULES:
        raise InputError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}.")
    return SCHEDULES[name](num_steps, decays)
