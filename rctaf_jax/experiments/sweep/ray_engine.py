"""A sweep on a Ray cluster: each task trains and measures as many members as a device takes.

The nodes need share no files: a task works in a folder of its own and sends each finished member
back as bytes, which this process writes into the results folder. Ray's own retries would do whole
tasks again; here a lost task is followed by one for those of its members that did not arrive.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rctaf_jax.errors import InputError, Preempted
from rctaf_jax.experiments.results.phrasing import describe_row
from rctaf_jax.experiments.run.environment import package_versions
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.files import write_folder_atomic
from rctaf_jax.training.members import STACK_ON_ACCELERATORS
from rctaf_jax.training.preemption import watch_for_termination
from rctaf_jax.typed_json import read_json

from . import unfinished
from .members import SweepMember, by_family, groups_of
from .ray_cluster import connected, import_ray
from .ray_task import Files, MemberText, Order, train_here
from .setup import Sweep
from .unfinished import is_done

MAX_ATTEMPTS = 5
"""A group that lost its worker so often ends the sweep: it may be what brings workers down."""
POLL_SECONDS = 1.0

Stream = Any
"""What a task yields, as it comes; Ray's."""
Submit = Callable[[list[SweepMember]], Stream]


class Task(NamedTuple):
    """A group under way."""

    group: list[SweepMember]
    attempt: int


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
    has_gpus = import_ray().cluster_resources().get("GPU", 0) > 0
    size = STACK_ON_ACCELERATORS if has_gpus else 1
    groups = [group for family in by_family(missing) for group in groups_of(family, size)]
    submit = make_submit(sweep, has_gpus)
    for name, files in arrivals(sweep.folder, groups, submit, progress, should_stop):
        place = sweep.folder / "members" / name
        write_folder_atomic(place, files, workplace=sweep.folder / unfinished.FOLDER)
        progress.member(describe_row(read_json(place / "row.json")))


def make_submit(sweep: Sweep, has_gpus: bool) -> Submit:
    """`submit(group)` queues a task that takes one device of the cluster."""
    ray = import_ray()
    order = ray.put(Order(sweep.config, sweep.dataset, sweep.command, package_versions()))
    device = {"num_gpus": 1} if has_gpus else {"num_cpus": 1}
    task = ray.remote(max_retries=0, **device)(train_here)

    def submit(group: list[SweepMember]) -> Stream:
        return task.remote([order], [MemberText(e.id, e.activation.text, e.seed) for e in group])

    return submit


def arrivals(
    folder: Path,
    groups: list[list[SweepMember]],
    submit: Submit,
    progress: SweepProgress,
    should_stop: Callable[[], bool],
) -> Iterator[tuple[str, Files]]:
    """Ids and files of members, as they finish anywhere; the caller writes each into `folder`.

    Raises:
      InputError: if a task raised one, a node lacks a package, or a group lost its worker too
        often, once all that waits has been yielded. Any other error of a task keeps its traceback.
      Preempted: if `should_stop` said so, likewise.
    """
    ray = import_ray()
    tasks = {submit(group): Task(group, attempt=1) for group in groups}
    end: Exception | None = None
    while tasks:
        end = end or (Preempted() if should_stop() else None)
        ready, _ = ray.wait(list(tasks), timeout=0 if end else POLL_SECONDS)
        if end and not ready:
            break
        for stream in ready:
            came = take(stream)
            if isinstance(came, tuple):
                yield came
                continue
            group, attempt = tasks.pop(stream)
            left = [member for member in group if not is_done(folder, member)]
            if came is None or not left:
                continue
            end = end or reason_to_end(came, left, attempt)
            if not end:
                progress.lost([member.id for member in left], type(came).__name__)
                tasks[submit(left)] = Task(left, attempt + 1)
    if end:
        raise end


def take(stream: Stream) -> tuple[str, Files] | Exception | None:
    """What a ready stream has next: a member, the error of its task, or None at its end."""
    ray = import_ray()
    try:
        return ray.get(next(stream))
    except StopIteration:
        return None
    except ray.exceptions.RayError as error:
        return error


def reason_to_end(error: Any, left: list[SweepMember], attempt: int) -> Exception | None:
    """What the sweep ends with after a task's error; None if the task is worth another attempt."""
    if isinstance(error, import_ray().exceptions.RayTaskError):
        # An error's text has the node's traceback in it, its cause's is the sentence alone.
        if isinstance(error.cause, InputError):
            return InputError(str(error.cause))
        lack = what_lacks(error)
        return error if lack is None else InputError(lack)
    if attempt < MAX_ATTEMPTS:
        return None
    return InputError(
        f"{', '.join(member.id for member in left)} lost the worker {attempt} times, at last by "
        f"{type(error).__name__}: see whether the nodes have memory enough; the same command goes "
        "on from there."
    )


def what_lacks(error: Any) -> str | None:
    """Which package a task's node lacks; None if its error is another."""
    # Where Ray could not even load the task, the error's text alone tells of it.
    found = re.search(r"No module named '[^']+'", str(error))
    if not isinstance(error.cause, ImportError) and found is None:
        return None
    words = found.group() if found else error.cause
    return (
        f"a node of the Ray cluster lacks something that this machine has ({words}): install the "
        "same packages on all nodes."
    )
