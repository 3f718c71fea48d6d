"""What runs on a node of a Ray cluster: blocks of an attack's images, on one device."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from rctaf_jax.eval.autoattack.blocks import Block, Job, make_attack_block
from rctaf_jax.eval.autoattack.pool import Finished

from .ray_cluster import check_versions


class Order(NamedTuple):
    """What all tasks of an attack need, sent to each node once."""

    job: Job
    is_x64: bool
    versions: dict[str, str]


def attack_here(order: list[Any], block: Block) -> Iterator[tuple[int, Finished]]:
    """Attack a block; yields attacks' numbers and what they are done with, about once a second.

    Args:
      order: a list of one reference to an `Order`, since Ray would unpack a bare reference before
        every task.
      block: of the images.

    Raises:
      InputError: if this node has other versions of the packages.
    """
    yield from open_here(*order)(block)


@functools.lru_cache(maxsize=1)
def open_here(order: Any) -> Callable[[Block], Iterator[tuple[int, Finished]]]:
    """The attack on this worker's device.

    Cached, so that all tasks which a worker process gets share the compiled programs.

    Args:
      order: a reference to an `Order`.

    Raises:
      InputError: if this node has other versions of the packages.
    """
    import ray

    job, is_x64, versions = ray.get(order)
    check_versions(versions)
    jax.config.update("jax_enable_x64", is_x64)
    # A task has one CPU, as Ray counts them, or one GPU.
    return make_attack_block(job, jax.local_devices()[0], cores=1)
