"""Checkpoints by Orbax: written aside and renamed, while training goes on."""

import contextlib
import gc
import logging
import sys
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
    """The checkpoints of one run, the newest two of them.

    A context manager: leaving it waits for the save under way.
    """

    def __init__(self, directory: Path) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._directory = directory.absolute()
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The newest step saved, None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, tree: PyTree) -> None:
        """Copy `tree` to the host, write it in the background."""
        self._manager.save(step, args=ocp.args.StandardSave(tree))

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
        raise InputError(
            f"the checkpoint of step {step} in {self._directory} cannot be read as this network's "
            f"({kind}): it is damaged or another network's; remove that step's folder to go back "
            "to the one before."
        )


@contextlib.contextmanager
def _silent_failure() -> Iterator[None]:
    """Keep quiet what Orbax leaves behind when a restore fails.

    Its other reads fail on their own, in coroutines that nobody awaits; the garbage collector
    would print each of them after our one sentence.
    """
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    logging.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)
