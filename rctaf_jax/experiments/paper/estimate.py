"""How long a study will take, from a short trial of its own compiled programs.

The trial compiles what the run will use and then takes one training step in each quarter of the
run (inner maximisations grow), one evaluation batch, and one Hessian probe; what it compiles is
used again. Other families than the first are taken to cost the same.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rctaf_jax.data import Split
from rctaf_jax.experiments.run.measure import AUTOATTACK_BATCH, hessian_split, make_logits
from rctaf_jax.experiments.sweep.family import missing_groups, programs_of
from rctaf_jax.experiments.sweep.members import SweepMember, by_family
from rctaf_jax.experiments.sweep.setup import FamilyPrograms, Sweep
from rctaf_jax.experiments.sweep.unfinished import is_done
from rctaf_jax.training.members import stack

AUTOATTACK_FORWARDS = 10_000
"""What AutoAttack takes per image, in forward passes' time, where two fifths withstand; 4,900 was
measured where one fifth did (`benchmarks/autoattack_reference.py`, Linf)."""
_QUARTERS = (1 / 8, 3 / 8, 5 / 8, 7 / 8)


class Cost(NamedTuple):
    """Seconds of one study.

    Attributes:
      compiling: per family.
      group: training of as many networks as train at once, or fewer.
      member: evaluation and Hessian norm of one network.
    """

    compiling: float
    group: float
    member: float


def estimate_study(sweep: Sweep, members: Sequence[SweepMember]) -> float:
    """Seconds for those of `members` that the sweep lacks; 0 without any trial if it has all."""
    missing = [member for member in members if not is_done(sweep.folder, member)]
    if not missing:
        return 0.0
    cost = try_out(sweep, missing[0])
    groups = sum(len(missing_groups(sweep, family)) for family in by_family(members))
    families = len(by_family(missing))
    return families * cost.compiling + groups * cost.group + len(missing) * cost.member


def try_out(sweep: Sweep, member: SweepMember) -> Cost:
    """Compile one family's programs and time a little of each."""
    programs = programs_of(sweep, member.activation)
    state = programs.trainer.initial(member.seed, member.activation.alpha)
    training = _training(sweep, programs, member)
    evaluation = _evaluation(sweep, programs, member, state.variables)
    if state.averaged:  # evaluated as trained, too
        evaluation = evaluation._replace(member=2 * evaluation.member)
    hessian = _hessian(sweep, programs, state.variables)
    return Cost(*map(sum, zip(training, evaluation, hessian, strict=True)))


def _training(sweep: Sweep, programs: FamilyPrograms, member: SweepMember) -> Cost:
    trainer = programs.trainer
    state = trainer.initial(member.seed, member.activation.alpha)

    def step(share: float) -> float:
        at = jnp.asarray(int(share * trainer.num_steps), state.step.dtype)
        states = stack([state._replace(step=at)], sweep.devices, sweep.per_device)
        return _seconds(lambda: programs.advance(states, sweep.data, trainer.settings, 1))

    first = step(0.0)
    each = float(np.mean([step(share) for share in _QUARTERS]))
    return Cost(max(first - each, 0.0), trainer.num_steps * each, 0.0)


def _evaluation(
    sweep: Sweep, programs: FamilyPrograms, member: SweepMember, variables: Any
) -> Cost:
    config = sweep.config.evaluation
    if config.attack == "autoattack":
        return _autoattack(sweep, member, variables)
    few = Split(*(array[:2] for array in sweep.dataset.test))
    first, each = (_seconds(lambda: programs.evaluate(variables, few)) for _ in range(2))
    batches = math.ceil(len(sweep.dataset.test.labels) / config.batch_size)
    return Cost(max(first - each, 0.0), 0.0, batches * each)


def _autoattack(sweep: Sweep, member: SweepMember, variables: Any) -> Cost:
    """From a forward pass, since what AutoAttack compiles depends on how many images it gets."""
    num_images = len(sweep.dataset.test.labels)
    batch = min(sweep.config.evaluation.batch_size, AUTOATTACK_BATCH, num_images)
    images = jnp.asarray(sweep.dataset.test.images[:batch]) / 255
    forward = jax.jit(make_logits(sweep.config.train, member.activation, sweep.dataset.num_classes))
    with jax.default_matmul_precision("highest"):
        first, each = (_seconds(lambda: forward(variables, images)) for _ in range(2))
    return Cost(4 * max(first - each, 0.0), 0.0, num_images / batch * each * AUTOATTACK_FORWARDS)


def _hessian(sweep: Sweep, programs: FamilyPrograms, variables: Any) -> Cost:
    config = sweep.config.hessian
    if not config.num_probes:
        return Cost(0.0, 0.0, 0.0)
    few = Split(*(array[:2] for array in sweep.dataset.train))
    first, each = (
        _seconds(lambda: programs.estimate_hessian(variables, few, num_probes=2)) for _ in range(2)
    )
    num_images = len(hessian_split(config.num_examples, sweep.dataset).labels)
    batches = math.ceil(num_images / config.batch_size)
    return Cost(max(first - each, 0.0), 0.0, each / 2 * config.num_probes * batches)


def _seconds(work: Callable[[], Any]) -> float:
    started = time.monotonic()
    jax.block_until_ready(work())
    return time.monotonic() - started
