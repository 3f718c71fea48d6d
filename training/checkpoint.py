"""Checkpoints by Orbax: written aside and renamed, while training goes on."""

import contextlib
import errno
import gc
import logging
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from rctaf_jax.errors import InputError


class Checkpoints:
    """The checkpoints of one run, the newest two of them, or as many as are to be kept.

    A context manager: leaving it waits for the save under way. Where the system lets no checkpoint
    be written, saving or leaving raises an OSError; those that were whole before stay so.
    """

    def __init__(self, directory: Path, *, num_kept: int = 2) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=num_kept, create=True)
        self._directory = directory.absolute()
        self._manager = ocp.CheckpointManager(self._directory, options=options)
        self._has_saved = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            with self._writing():
                self._manager.close()
        except OSError:
            if error is None:  # else it is what ended the run, or follows from it
                raise

    @property
    def latest(self) -> int | None:
        """The newest step saved, None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, tree: PyTree) -> None:
        """Copy `tree` to the host, write it in the background.

        Raises:
          OSError: if the system does not let this save, or the one before, be written.
        """
        if not self._has_saved:
            self._remove_remains()
            self._has_saved = True
        with self._writing():
            self._manager.save(step, args=ocp.args.StandardSave(tree))

    def wait(self) -> None:
        """Until the save under way is whole.

        Raises:
          OSError: if the system does not let it be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def restore(self, like: PyTree) -> PyTree:
        """The newest checkpoint, in the structure, shapes and dtypes of `like`.

        Raises:
          InputError: if there is none, or it cannot be read as such.
        """
        step = self.latest
        if step is None:
            raise InputError(f"there is no checkpoint in {self._directory}.")
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with _silent_failure():
            try:
                return self._manager.restore(step, args=ocp.args.StandardRestore(target))
            # Orbax and TensorStore raise many kinds for a damaged file; each means the same here.
            except Exception as error:
                kind = type(error).__name__
            gc.collect()
        raise InputError(
            f"the checkpoint of step {step} in {self._directory} cannot be read as this network's "
            f"({kind}): it is damaged or another network's; remove that step's folder to go back "
            "to the one before."
        )

    def restore_arrays(self) -> dict[str, PyTree]:
        """The newest checkpoint as nested dicts of arrays on one device, whatever is in it.

        Raises:
          InputError: if there is none, or it cannot be read.
        """
        step = self.latest
        if step is None:
            raise InputError(f"there is no checkpoint in {self._directory}.")
        folder = self._directory / str(step) / "default"
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        with _silent_failure(), ocp.StandardCheckpointer() as reader:
            try:
                tree = dict(reader.metadata(folder).item_metadata.tree)
                target = jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree
                )
                return dict(reader.restore(folder, target))
            except Exception as error:  # many kinds, as in `restore`
                kind = type(error).__name__
            gc.collect()
        raise InputError(
            f"the checkpoint of step {step} in {self._directory} cannot be read ({kind}): it is "
            "damaged; remove that step's folder to go back to the one before."
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Make one OSError of whatever a save is refused with; remove what it wrote till then.

        Raises:
          OSError: that names the folder and the reason.
        """
        try:
            yield
            return
        # Orbax and TensorStore raise many kinds; what the system said is in their text.
        except Exception as error:
            code = _system_error(error)
            if code is None:
                raise
        with _silent_failure():
            self._remove_remains()
            gc.collect()
        raise OSError(code, os.strerror(code), str(self._directory))

    def _remove_remains(self) -> None:
        """Remove what saves that failed or were killed left; none is under way."""
        if jax.process_index() == 0:
            for remains in self._directory.glob(f"*{_UNFINISHED}*"):
                _remove(remains)


_UNFINISHED = ".orbax-checkpoint-tmp"
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EIO)


def _remove(remains: Path) -> None:
    """Remove a folder into which threads of a save that failed may still write for a moment."""
    looks = 0
    for _ in range(50):
        shutil.rmtree(remains, ignore_errors=True)
        looks = 0 if remains.exists() else looks + 1
        if looks == 3:  # gone, and not made again
            return
        time.sleep(0.1)


def _system_error(error: BaseException) -> int | None:
    """The errno behind an error of Orbax or TensorStore; None if there is none.

    >>> _system_error(ValueError("Failed to write: No space left on device [os_error_code='28']"))
    28
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return int(code.group(1))
    named = (code for code in _REFUSALS if os.strerror(code) in str(error))
    return next(named, None)


@contextlib.contextmanager
def _silent_failure() -> Iterator[None]:
    """Keep quiet what Orbax leaves behind when it fails, and the garbage collector speaks of.

    Its other reads or writes fail on their own, in coroutines that nobody awaits: to be collected
    in here, each would otherwise be printed after our one sentence.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)
