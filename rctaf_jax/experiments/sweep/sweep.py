"""The sweep: train a network for each beta x curvature x seed, measure it, write it down.

A member is done when its `row.json` and its outcomes are there; started again, a sweep does what is
missing.
"""

from collections.abc import Sequence
from pathlib import Path

from rctaf_jax.errors import InputError, Preempted
from rctaf_jax.experiments.results.phrasing import describe_row
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.training.preemption import watch_for_termination

from . import unfinished
from .family import finish_family, missing_groups
from .members import SweepMember, by_family
from .setup import Engine, ResolvedSweep, Sweep, open_sweep
from .unfinished import check_readable, is_done


def run_members(sweep: Sweep, members: Sequence[SweepMember], progress: SweepProgress) -> None:
    """Train and measure those of `members` that the sweep's folder lacks.

    Raises:
      Preempted: on SIGTERM, after a checkpoint or after a member that was being measured.
    """
    missing = [member for member in members if not is_done(sweep.folder, member)]
    progress.start(len(members), len(members) - len(missing))
    with watch_for_termination() as should_stop:
        for family in by_family(members):
            if missing_groups(sweep, family):
                for row in finish_family(sweep, family, progress, should_stop):
                    progress.member(describe_row(row))
                    if should_stop():
                        raise Preempted()
    unfinished.clear(sweep.folder)


def run_sweep(
    resolved: ResolvedSweep,
    folder: Path,
    command: str,
    progress: SweepProgress,
    engine: Engine = run_members,
    *,
    retrain: bool = False,
) -> None:
    """Train and measure every member of a resolved sweep that `folder` lacks.

    Args:
      resolved: see `resolve_sweep`.
      folder: made, or gone on with.
      command: written down.
      progress: told of all that happens.
      engine: trains and measures members.
      retrain: forget members whose files cannot be read, instead of refusing to go on.

    Raises:
      InputError: if the folder belongs to another configuration, or has such members.
      Preempted: on SIGTERM, after a checkpoint or a finished member.
    """
    sweep = open_sweep(resolved, folder, command)
    settle_damaged(folder, resolved.members, retrain=retrain)
    engine(sweep, resolved.members, progress)


def settle_damaged(folder: Path, members: Sequence[SweepMember], *, retrain: bool) -> None:
    """Refuse members whose files cannot be read, or keep their rows aside: they are missing then.

    Raises:
      InputError: without `retrain`, naming the first such file.
    """
    for member in members:
        try:
            check_readable(folder, member)
        except InputError as error:
            if not retrain:
                advice = "--retrain trains this member again"
                raise InputError(f"{str(error).removesuffix('.')}; {advice}.") from None
            row = folder / "members" / member.id / "row.json"
            row.replace(row.with_name("row.json.damaged"))
