"""Members of one family: trained in groups by the same compiled programs, then measured.

Training goes on from the last checkpoint of the same group: the same members on as many devices.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from rctaf_jax.activations import Activation
from rctaf_jax.batching import fit_batch
from rctaf_jax.data import Split
from rctaf_jax.experiments.run.measure import (
    make_estimate_hessian,
    make_evaluate,
    make_logits,
)
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.training.checkpoint import Checkpoints
from rctaf_jax.training.members import (
    Member,
    TrainedMember,
    map_members,
    train_members,
)
from rctaf_jax.training.step import Metrics
from rctaf_jax.training.trainer import make_trainer

from . import unfinished
from .member_folder import measure
from .members import SweepMember, groups_of
from .setup import FamilyPrograms, Sweep
from .unfinished import Group, is_done


def finish_family(
    sweep: Sweep,
    family: list[SweepMember],
    progress: SweepProgress,
    should_stop: Callable[[], bool],
) -> Iterator[dict[str, Any]]:
    """Finish members of one family by the same compiled programs; their rows, as they are written.

    Raises:
      Preempted: if `should_stop` said so, after a checkpoint.
    """
    programs = programs_of(sweep, family[0].activation)
    # Compiling the measurements takes as long as the training program: both at once.
    with ThreadPoolExecutor(max_workers=1) as compiler:
        compiled = compiler.submit(compile_measurements, sweep, programs, family[0])
        for group in missing_groups(sweep, family):
            trained_group = train_group(sweep, programs, group, progress, should_stop)
            compiled.result()
            for member, trained, seconds in trained_group:
                if not is_done(sweep.folder, member):
                    yield measure(sweep, programs, member, trained, seconds, progress)
            unfinished.remove(sweep.folder, group_of(sweep, group))


def missing_groups(sweep: Sweep, family: Sequence[SweepMember]) -> list[list[SweepMember]]:
    """Members of one family as they train at once, without groups that are done."""
    groups = groups_of(family, len(sweep.devices) * sweep.per_device)
    return [group for group in groups if not all(is_done(sweep.folder, one) for one in group)]


def group_of(sweep: Sweep, group: Sequence[SweepMember]) -> Group:
    """A group as its checkpoints know it."""
    ids = tuple(member.id for member in group)
    return Group(ids, len(sweep.devices), sweep.per_device)


def compile_measurements(sweep: Sweep, programs: FamilyPrograms, member: SweepMember) -> None:
    """Measure an untrained member on two images, by the programs that measure every member."""
    state = programs.trainer.initial(member.seed, member.activation.alpha)
    few = Split(*(array[:2] for array in sweep.dataset.test))
    if sweep.config.evaluation.attack == "pgd":  # AutoAttack compiles for as many as there are
        programs.evaluate(state.variables, few)
    if sweep.config.hessian.num_probes:
        programs.estimate_hessian(state.variables, few, num_probes=2)


def programs_of(sweep: Sweep, activation: Activation) -> FamilyPrograms:
    """What a family needs, made once; nothing is compiled before it is called."""
    if activation.name not in sweep.programs:
        sweep.programs[activation.name] = make_programs(sweep, activation)
    return sweep.programs[activation.name]


def make_programs(sweep: Sweep, activation: Activation) -> FamilyPrograms:
    """What a family needs."""
    config, num_classes = sweep.config, sweep.dataset.num_classes
    trainer = make_trainer(sweep.training, activation, sweep.dataset)
    logits = make_logits(config.train, activation, num_classes)
    num_test, num_train = len(sweep.dataset.test.labels), len(sweep.dataset.train.labels)
    evaluation, hessian = config.evaluation, config.hessian
    num_examples = min(hessian.num_examples or num_train, num_train)
    evaluation = replace(evaluation, batch_size=fit_batch(evaluation.batch_size, num_test))
    hessian = replace(hessian, batch_size=fit_batch(hessian.batch_size, num_examples))
    return FamilyPrograms(
        trainer,
        map_members(trainer, sweep.devices, sweep.per_device),
        make_evaluate(evaluation, logits, config.train.norm, config.train.epsilon),
        make_estimate_hessian(hessian, logits),
    )


def train_group(
    sweep: Sweep,
    programs: FamilyPrograms,
    group: list[SweepMember],
    progress: SweepProgress,
    should_stop: Callable[[], bool],
) -> list[tuple[SweepMember, TrainedMember, float]]:
    """Train a group at once, from its last checkpoint; each member with its share of the time."""
    members = [Member(member.seed, member.activation.alpha) for member in group]
    trainer, started = programs.trainer, time.monotonic()
    batch_images = sweep.config.train.batch_size * len(group)

    def report(step: int, metrics: Metrics) -> None:
        count = float(np.mean(metrics.num_steps))
        loss = float(np.mean(np.asarray(metrics.loss))) / count
        progress.step(step, trainer.num_steps, loss, int(count) * batch_images)

    progress.group([member.id for member in group], trainer.num_steps)
    with Checkpoints(unfinished.claim(sweep.folder, group_of(sweep, group))) as checkpoints:
        trained = train_members(
            trainer,
            programs.advance,
            members,
            sweep.data,
            devices=sweep.devices,
            per_device=sweep.per_device,
            checkpoints=checkpoints,
            report=report,
            should_stop=should_stop,
        )
    share = (time.monotonic() - started) / len(group)
    return [(member, one, share) for member, one in zip(group, trained, strict=True)]
