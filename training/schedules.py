"""Learning-rate schedules: multipliers of the peak as a function of the step.

All scale with the length of training, so that a shorter run keeps the shape.
"""

from collections.abc import Callable

import optax
from jaxtyping import Array, Float, Int

from rctaf_jax.errors import InputError

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]

# The decay epochs of the method's recipe as shares of its length: 75, 90 and 100 of 110 epochs in
# the TRADES implementation (so a run of 76 epochs sees one).
STEP_DECAY_SHARES = (75 / 110, 90 / 110, 100 / 110)


def constant(num_steps: int) -> Schedule:
    """1 throughout."""
    return optax.constant_schedule(1.0)


def cosine(num_steps: int) -> Schedule:
    """(1 + cos(pi t / T)) / 2 at step t of T."""
    return optax.cosine_decay_schedule(1.0, num_steps)


def step(num_steps: int) -> Schedule:
    """1, divided by 10 at each of three late shares of training."""
    decays = {round(share * num_steps): 0.1 for share in STEP_DECAY_SHARES}
    return optax.piecewise_constant_schedule(1.0, decays)


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
}


def schedule_named(name: str, num_steps: int) -> Schedule:
    """The schedule over `num_steps` optimiser steps.

    Raises:
      InputError: for a name that is not in the table.
    """
    if name not in SCHEDULES:
        raise InputError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)}.")
    return SCHEDULES[name](num_steps)
