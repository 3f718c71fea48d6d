"""Checkpoints by Orbax: written aside and renamed, while training goes on."""

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
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(target))
        # Orbax and TensorStore raise many kinds for a damaged file; each means the same here.
        except Exception as error:
            raise InputError(
                f"the checkpoint of step {step} in {self._directory} cannot be read "
                f"({type(error).__name__}); remove that step's folder to go back to the one before."
            ) from error
