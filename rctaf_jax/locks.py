"""One process a results folder: a lock that ends with the process that holds it, however it ends.

The system's own lock (flock, on NFS too) on an empty file that stays: removing it would let two
processes hold locks on two files of one name.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rctaf_jax.errors import InputError

INSIDE = ".lock"
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the one process that works in `folder`, which need not be there yet.

    Raises:
      InputError: if another process is working in it.
      OSError: if the system lets nothing be written there.
    """
    lock = FileLock(_lock_file(folder), fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another process is working in {folder}: wait until it ends, or choose another "
            "--output."
        ) from None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise OSError(error.errno, error.strerror, str(folder)) from None
        # Some clusters mount their disks so, where refusing would leave no place to work at all.
        print(
            f"rctaf: the file system of {folder} has no locks: see to it that no other process "
            "works there.",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        lock.release()


def _lock_file(folder: Path) -> Path:
    """Where the lock of a folder lies, by whichever link or path it is called.

    Beside the folder, since one that is not there yet can be locked so and is then made in one
    step. Inside a mount point, whose other side may be mounted elsewhere too; and inside a folder
    whose parent cannot be written.
    """
    folder = Path(os.path.realpath(folder))
    parent = folder.parent
    if folder.is_dir() and (folder.is_mount() or not os.access(parent, os.W_OK)):
        return folder / INSIDE
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent)) from None
    return parent / f".{folder.name}{INSIDE}"
