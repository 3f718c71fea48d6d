"""Budgets of the inner maximisation over the epochs: radius, number and size of steps.

e counts epochs from 1 to E. All but `fixed` let the ball grow, eps_e = eps e / E, and are made of
shares of it, so that a run of any length keeps their shape (Addepalli et al. 2022).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rctaf_jax.values import lookup

from .methods.method import Budget

ScalarArray = Float[Array, ""]
BudgetSchedule = Callable[[Int[Array, ""], ScalarArray, ScalarArray], Budget]
"""`(epoch, epsilon, step_size)` to the epoch's budget; the epoch is counted from 0."""


class RunShape(NamedTuple):
    """Static facts of a run that a budget is made of."""

    norm: str
    num_epochs: int
    attack_steps: int


def fixed(shape: RunShape) -> BudgetSchedule:
    """`attack_steps` steps of `step_size` within `epsilon`, in every epoch."""

    def budget(epoch: Int[Array, ""], epsilon: ScalarArray, step_size: ScalarArray) -> Budget:
        return Budget(shape.norm, epsilon, step_size, shape.attack_steps)

    return budget


def growing(shape: RunShape, quarters: tuple[tuple[int, float], ...]) -> BudgetSchedule:
    """In each quarter of training, so many steps of so large a share of eps_e."""
    counts, shares = zip(*quarters, strict=True)

    def budget(epoch: Int[Array, ""], epsilon: ScalarArray, step_size: ScalarArray) -> Budget:
        radius = epsilon * ((epoch + 1) / shape.num_epochs).astype(epsilon.dtype)
        quarter = 4 * epoch // shape.num_epochs
        share = jnp.asarray(shares, epsilon.dtype)[quarter]
        return Budget(shape.norm, radius, share * radius, jnp.asarray(counts)[quarter])

    return budget


def low(shape: RunShape) -> BudgetSchedule:
    """2 steps of eps_e; published with 110 epochs."""
    return growing(shape, ((2, 1.0),) * 4)


def high(shape: RunShape) -> BudgetSchedule:
    """As published: 2, 3, 4, 5 steps of eps_e, 2 eps_e / 3, eps_e / 2, eps_e / 2."""
    return growing(shape, ((2, 1.0), (3, 2 / 3), (4, 1 / 2), (5, 1 / 2)))


def high_released(shape: RunShape) -> BudgetSchedule:
    """As the released code runs: its cases overwrite one another, and the last one stays."""
    return growing(shape, ((5, 1 / 2),) * 4)


BUDGETS: dict[str, Callable[[RunShape], BudgetSchedule]] = {
    "fixed": fixed,
    "low": low,
    "high": high,
    "high-released": high_released,
}


def budget_named(name: str, shape: RunShape) -> BudgetSchedule:
    """The budget of that name.

    Raises:
      InputError: for a name that is not in the table.
    """
    return lookup("budget", name, BUDGETS)(shape)
