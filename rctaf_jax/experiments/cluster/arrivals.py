"""Tasks on a cluster, watched: what they yield as it comes, and another for what a lost one had.

Ray's own retries would do whole tasks again; here a lost task is followed by one for that part of
its work which did not arrive.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from rctaf_jax.errors import InputError, Preempted

from .ray_cluster import import_ray

MAX_ATTEMPTS = 5
"""Work that lost its worker so often ends the command: it may be what brings workers down."""
POLL_SECONDS = 1.0

Stream = Any
"""What a task yields, as it comes; Ray's."""
Part = TypeVar("Part")


class Work(NamedTuple, Generic[Part]):
    """What is done in parts, a task for each.

    Attributes:
      submit: queues a task, whose stream has tuples in it.
      left: what of a part has not arrived yet; None if all has.
      name: of a part, for people.
      lost: called with a part that is tried again, and why.
    """

    submit: Callable[[Part], Stream]
    left: Callable[[Part], Part | None]
    name: Callable[[Part], str]
    lost: Callable[[Part, str], None]


def arrivals(
    parts: Sequence[Part], work: Work[Part], should_stop: Callable[[], bool]
) -> Iterator[Any]:
    """What tasks yield, as it comes from anywhere; the caller keeps it, so that `left` knows.

    Args:
      parts: all handed out at once.
      work: what is done with them.
      should_stop: asked about once a second.

    Raises:
      InputError: if a task raised one, a node lacks a package, or a part lost its worker too
        often, once all that waits has been yielded. Any other error of a task keeps its traceback.
      Preempted: if `should_stop` said so, likewise.
    """
    ray = import_ray()
    tasks = {work.submit(part): (part, 1) for part in parts}
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
            part, attempt = tasks.pop(stream)
            left = work.left(part)
            if came is None or left is None:
                continue
            end = end or reason_to_end(came, work.name(left), attempt)
            if not end:
                work.lost(left, type(came).__name__)
                tasks[work.submit(left)] = (left, attempt + 1)
    if end:
        raise end


def take(stream: Stream) -> tuple[Any, ...] | Exception | None:
    """What a ready stream has next: a tuple, the error of its task, or None at its end."""
    ray = import_ray()
    try:
        came: tuple[Any, ...] = ray.get(next(stream))
        return came
    except StopIteration:
        return None
    except ray.exceptions.RayError as error:
        return error


def reason_to_end(error: Any, name: str, attempt: int) -> Exception | None:
    """What a command ends with after a task's error; None if the task is worth another attempt."""
    if isinstance(error, import_ray().exceptions.RayTaskError):
        # An error's text has the node's traceback in it, its cause's is the sentence alone.
        if isinstance(error.cause, InputError):
            return InputError(str(error.cause))
        lack = what_lacks(error)
        return error if lack is None else InputError(lack)
    if attempt < MAX_ATTEMPTS:
        return None
    return InputError(
        f"{name} lost the worker {attempt} times, at last by {type(error).__name__}: see whether "
        "the nodes have memory enough; the same command goes on from there."
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
