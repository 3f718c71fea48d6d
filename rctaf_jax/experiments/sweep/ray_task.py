"""What runs on a node of a Ray cluster: a group of members, trained and measured on one device."""

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console

from rctaf_jax.activations import parse_activation
from rctaf_jax.config import SweepConfig
from rctaf_jax.data import Dataset
from rctaf_jax.experiments.cluster.ray_cluster import check_versions
from rctaf_jax.experiments.show.progress import SweepProgress
from rctaf_jax.files import read_folder
from rctaf_jax.training.members import members_per_device
from rctaf_jax.training.recipe import resolve
from rctaf_jax.training.trainer import device_data

from .family import finish_family
from .members import SweepMember
from .setup import Sweep

Files = dict[str, bytes]


class Order(NamedTuple):
    """What all tasks of a sweep need, sent to each node once."""

    config: SweepConfig
    dataset: Dataset
    command: str
    versions: dict[str, str]


class MemberText(NamedTuple):
    """A member, in values that any process understands."""

    id: str
    activation: str
    seed: int


def train_here(order: list[Any], members: list[MemberText]) -> Iterator[tuple[str, Files]]:
    """Train and measure members of one family; yields each one's id and files.

    Args:
      order: a list of one reference to an `Order`, since Ray would unpack a bare reference before
        every task.
      members: of one family.

    Raises:
      InputError: if this node has other versions of the packages.
    """
    opened = open_here(*order)
    group = [SweepMember(name, parse_activation(text), seed) for name, text, seed in members]
    silent = SweepProgress(Console(quiet=True))
    with tempfile.TemporaryDirectory(prefix="rctaf-") as place:
        sweep = opened._replace(folder=Path(place))
        for row in finish_family(sweep, group, silent, lambda: False):
            yield row["id"], read_folder(sweep.folder / "members" / row["id"])


@functools.lru_cache(maxsize=1)
def open_here(order: Any) -> Sweep:
    """The sweep on this worker's device, its folder still to be named.

    Cached, so that all tasks which a worker process gets share the compiled programs.

    Args:
      order: a reference to an `Order`.

    Raises:
      InputError: if this node has other versions of the packages.
    """
    import ray

    config, dataset, command, versions = ray.get(order)
    check_versions(versions)
    return Sweep(
        Path(),
        command,
        config,
        dataset,
        resolve(config.train, dataset),
        device_data(dataset),
        jax.local_devices()[:1],
        members_per_device(),
        programs={},
    )
