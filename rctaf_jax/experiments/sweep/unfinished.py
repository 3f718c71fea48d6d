"""What a sweep keeps of networks under way, and which networks need no more work.

unfinished/<first id>-<digest>/   of each group that trains at once, until all of it is measured
    members.json                  the `Group`
    checkpoints/
unfinished/<32 hexadecimal digits>/   of a member that came from elsewhere and is not whole yet
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from rctaf_jax.errors import InputError
from rctaf_jax.experiments.results.outcomes import outcomes_of
from rctaf_jax.experiments.results.row import read_row
from rctaf_jax.files import write_json
from rctaf_jax.typed_json import read_typed

from .members import SweepMember

FOLDER, MEMBERS = "unfinished", "members.json"
_ASIDE = re.compile(r"[0-9a-f]{32}")
"""What `write_folder_atomic` calls a folder that is not whole yet."""
_HALF = re.compile(rf"\.{re.escape(MEMBERS)}\.[0-9a-f]{{32}}\.tmp")


@dataclasses.dataclass(frozen=True)
class Group:
    """What a group's checkpoints hold, and what they fit.

    Attributes:
      members: ids, in order.
      devices, per_device: the places that they train in.
    """

    members: Annotated[tuple[str, ...], Meta(min_length=1)]
    devices: Annotated[int, Meta(ge=1)]
    per_device: Annotated[int, Meta(ge=1)]


def check_is_ours(folder: Path) -> None:
    """Refuse a folder in which a sweep would write or remove what is not its own.

    Raises:
      InputError: if a folder that it writes in is a link, or an unfinished group cannot be read.
    """
    for pattern in (FOLDER, "members", f"{FOLDER}/*", "members/*", "*/*/checkpoints"):
        for path in folder.glob(pattern):
            if path.is_symlink():
                raise InputError(
                    f"{path} is a link: it must be a folder, since a sweep removes what it has "
                    "finished; remove the link, or make the whole results folder one."
                )
    for place in folder.glob(f"{FOLDER}/*"):
        _group(place)


def claim(folder: Path, group: Group) -> Path:
    """Where the group's checkpoints belong; its folder is made, or found."""
    place = _place(folder, group)
    place.mkdir(parents=True, exist_ok=True)
    write_json(place / MEMBERS, dataclasses.asdict(group))
    return place / "checkpoints"


def remove(folder: Path, group: Group) -> None:
    """Forget a group that is done."""
    _discard(folder, _place(folder, group))


def clear(folder: Path) -> None:
    """Remove a sweep's own folders, but for groups with a member that is still to be done.

    What else lies there is left alone, and so is everything behind a link.

    Raises:
      InputError: if a group or a member cannot be read.
    """
    if (folder / FOLDER).is_symlink() or not (folder / FOLDER).is_dir():
        return
    for place in list((folder / FOLDER).iterdir()):
        if _is_left_over(folder, place):
            _discard(folder, place)
    with contextlib.suppress(OSError):  # something is left in it
        (folder / FOLDER).rmdir()


def is_measured(folder: Path, name: str) -> bool:
    """Whether the member `name` diverged, or was measured and its outcomes are there.

    Raises:
      InputError: if its row is there and cannot be read: damaged is not missing.
    """
    member = folder / "members" / name
    if not (member / "row.json").exists():
        return False
    return not read_row(member / "row.json").is_done or (member / "outcomes.npz").exists()


def is_done(folder: Path, member: SweepMember) -> bool:
    """Whether a member needs no more work.

    Raises:
      InputError: as `is_measured` does.
    """
    return is_measured(folder, member.id)


def check_readable(folder: Path, member: SweepMember) -> None:
    """Refuse a member whose row or outcomes are there and cannot be believed.

    Raises:
      InputError: naming the file.
    """
    if is_done(folder, member):
        row = read_row(folder / "members" / member.id / "row.json")
        if row.is_done:
            outcomes_of(folder, row)


def _place(folder: Path, group: Group) -> Path:
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(group)).encode()).hexdigest()[:12]
    return folder / FOLDER / f"{group.members[0]}-{digest}"


def _group(place: Path) -> Group | None:
    """The group of a folder; None if it is not one's.

    Raises:
      InputError: if it cannot be read.
    """
    if place.is_symlink() or not (place / MEMBERS).exists():
        return None
    return read_typed(place / MEMBERS, Group)


def _is_left_over(folder: Path, place: Path) -> bool:
    """Whether `place` is a sweep's own, and nobody waits for what is in it."""
    if place.is_symlink() or not place.is_dir():
        return False
    group = _group(place)
    if group is not None and _place(folder, group) == place:
        return all(is_measured(folder, name) for name in group.members)
    is_half_made = all(_HALF.fullmatch(path.name) for path in place.iterdir())
    return is_half_made or _ASIDE.fullmatch(place.name) is not None


def _discard(folder: Path, place: Path) -> None:
    """Remove a folder below `unfinished`, which is not behind a link."""
    if not (folder / FOLDER).is_symlink():
        shutil.rmtree(place, ignore_errors=True)  # which leaves links alone
