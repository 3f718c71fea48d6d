"""What a sweep keeps of networks under way, and which networks need no more work.

unfinished/<first id>-<digest>/   of each group that trains at once, until all of it is measured
    members.json                  the `Group`
    checkpoints/
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import NamedTuple

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.row import read_row
from rctaf_jax.files import write_json
from rctaf_jax.typed_json import read_json

FOLDER = "unfinished"


class Group(NamedTuple):
    """What a group's checkpoints hold, and what they fit.

    Attributes:
      members: ids, in order.
      devices, per_device: the places that they train in.
    """

    members: tuple[str, ...]
    devices: int
    per_device: int


def claim(folder: Path, group: Group) -> Path:
    """Where the group's checkpoints belong; its folder is made, or found."""
    place = _place(folder, group)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / "members.json", group._asdict())
    return place / "checkpoints"


def remove(folder: Path, group: Group) -> None:
    """Forget a group that is done."""
    shutil.rmtree(_place(folder, group), ignore_errors=True)


def clear(folder: Path) -> None:
    """Remove everything but groups with a member that is still to be done."""
    if not (folder / FOLDER).is_dir():
        return
    for place in list((folder / FOLDER).iterdir()):
        if not _is_awaited(folder, place):
            shutil.rmtree(place, ignore_errors=True)
    if not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


def is_measured(folder: Path, name: str) -> bool:
    """Whether the member `name` diverged, or was measured and its outcomes are there."""
    member = folder / "members" / name
    try:
        row = read_row(member / "row.json")
    except InputError:
        return False
    return not row.is_done or (member / "outcomes.npz").exists()


def _place(folder: Path, group: Group) -> Path:
    digest = hashlib.sha256(json.dumps(group._asdict()).encode()).hexdigest()[:12]
    return folder / FOLDER / f"{group.members[0]}-{digest}"


def _is_awaited(folder: Path, place: Path) -> bool:
    """Whether `place` is a group's, and some member of it is still to be done."""
    try:
        members = read_json(place / "members.json")["members"]
    except (InputError, KeyError):
        return False
    return not all(is_measured(folder, name) for name in members)
