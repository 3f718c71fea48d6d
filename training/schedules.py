"""Learning-rate schedules: multipliers of the peak as a function of the step.

All scale with the length of training, so that a shorter run keeps the shape. t counts steps from 0
to T, e epochs from 1 to E.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rctaf_jax.values import lookup

RateSchedule = Callable[[Int[Array, ""]], Float[Array, ""]]


class RunLength(NamedTuple):
    """How long a run is, and where its step schedule decays (shares of the run)."""

    num_epochs: int
    epoch_steps: int
    decays: tuple[float, ...] = ()

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.num_epochs * self.epoch_steps


def constant(length: RunLength) -> RateSchedule:
    """1 throughout."""
    return optax.constant_schedule(1.0)


def cosine(length: RunLength) -> RateSchedule:
    """(1 + cos(pi t / T)) / 2 at step t of T."""
    return optax.cosine_decay_schedule(1.0, length.num_steps)


def step(length: RunLength) -> RateSchedule:
    """1, divided by 10 at each of `decays`."""
    boundaries = {round(share * length.num_steps): 0.1 for share in length.decays}
    return optax.piecewise_constant_schedule(1.0, boundaries)


def epoch_cosine(length: RunLength) -> RateSchedule:
    """(1 + cos(pi (e - 1) / E)) / 2, constant within an epoch (DAJAT)."""
    return lambda t: (1 + jnp.cos(jnp.pi * (t // length.epoch_steps) / length.num_epochs)) / 2


def epoch_cosine_end(length: RunLength) -> RateSchedule:
    """(1 + cos(pi e / (E + 1))) / 2, constant within an epoch (DKL)."""
    return lambda t: (
        (1 + jnp.cos(jnp.pi * (t // length.epoch_steps + 1) / (length.num_epochs + 1))) / 2
    )


SCHEDULES: dict[str, Callable[[RunLength], RateSchedule]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
    "epoch-cosine": epoch_cosine,
    "epoch-cosine-end": epoch_cosine_end,
}


def schedule_named(name: str, length: RunLength) -> RateSchedule:
    """The schedule of that name over a run.

    Raises:
      InputError: for a name that is not in the table.
    """
    return lookup("schedule", name, SCHEDULES)(length)
