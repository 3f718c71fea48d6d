"""A sweep on a Ray cluster: each task trains and measures as many members as a device takes.

The nodes need share no files: a task works in a folder of its own and sends each finished member
back as bytes, which this process writes into the results folder.
"""

from collections.abc import Callable, Sequence

from rctaf_jax.experiments.cluster.arrivals import Stream, Work, arrivals
from rctaf_jax.experiments.cluster.ray_cluster import connected, has_gpus, import_ray
from rctaf_jax.experiments.results.phrasing import describe_row
from rctaf_jax.experiments.run.environment import package_versions
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.files import write_folder_atomic
from rctaf_jax.training.members import STACK_ON_ACCELERATORS
from rctaf_jax.training.preemption import watch_for_termination
from rctaf_jax.typed_json import read_json

from . import unfinished
from .members import SweepMember, by_family, groups_of
from .ray_task import MemberText, Order, train_here
from .setup import Sweep
from .unfinished import is_done

Submit = Callable[[list[SweepMember]], Stream]


def run_members_with_ray(
    sweep: Sweep, members: Sequence[SweepMember], progress: SweepProgress, address: str | None
) -> None:
    """Train and measure those of `members` that the sweep's folder lacks, on a Ray cluster.

    Args:
      sweep: opened; its folder needs to be seen from this machine only.
      members: members.
      progress: told of each member that arrived.
      address: HOST:PORT of the cluster; else RAY_ADDRESS, else one starts here and ends here.

    Raises:
      InputError: if Ray is not installed, no cluster answers, a task raised one, or a group lost
        its worker too often; what was done by then is kept.
      Preempted: on SIGTERM, likewise.
    """
    missing = [member for member in members if not is_done(sweep.folder, member)]
    progress.start(len(members), len(members) - len(missing))
    if missing:
        with connected(address), watch_for_termination() as should_stop:
            finish(sweep, missing, progress, should_stop)
    unfinished.clear(sweep.folder)


def finish(
    sweep: Sweep,
    missing: list[SweepMember],
    progress: SweepProgress,
    should_stop: Callable[[], bool],
) -> None:
    """Hand out all groups at once, and write members down as they arrive."""
    size = STACK_ON_ACCELERATORS if has_gpus() else 1
    groups = [group for family in by_family(missing) for group in groups_of(family, size)]

    def left(group: list[SweepMember]) -> list[SweepMember] | None:
        return [member for member in group if not is_done(sweep.folder, member)] or None

    def ids(group: list[SweepMember]) -> list[str]:
        return [member.id for member in group]

    work = Work(
        make_submit(sweep),
        left,
        lambda group: ", ".join(ids(group)),
        lambda group, reason: progress.lost(ids(group), reason),
    )
    for name, files in arrivals(groups, work, should_stop):
        place = sweep.folder / "members" / name
        write_folder_atomic(place, files, workplace=sweep.folder / unfinished.FOLDER)
        progress.member(describe_row(read_json(place / "row.json")))


def make_submit(sweep: Sweep) -> Submit:
    """`submit(group)` queues a task that takes one device of the cluster."""
    ray = import_ray()
    order = ray.put(Order(sweep.config, sweep.dataset, sweep.command, package_versions()))
    device = {"num_gpus": 1} if has_gpus() else {"num_cpus": 1}
    task = ray.remote(max_retries=0, **device)(train_here)

    def submit(group: list[SweepMember]) -> Stream:
        return task.remote([order], [MemberText(e.id, e.activation.text, e.seed) for e in group])

    return submit
