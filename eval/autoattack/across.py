"""Several processes of `jax.distributed` as one attack: a share of the images each.

All are given the same, know the fates of all images and take each decision alike. An attack's
images are dealt out among the processes, and what became of them is gathered when all are through.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from rctaf_jax.array_file import parse_arrays
from rctaf_jax.errors import InputError
from rctaf_jax.parallel import gather_bytes, gather_processes
from rctaf_jax.processes import is_first, on_first

from .pool import Finished, merged
from .store import Ledger, Store, is_close


def share_of(pending: Sequence[int]) -> Sequence[int]:
    """This process's part of the images that an attack still has to do."""
    return pending[jax.process_index() :: jax.process_count()]


def with_others(own: Iterator[Finished]) -> Iterator[Finished]:
    """What this process is done with, as it comes, and then what the others are done with."""
    groups = []
    for finished in own:
        groups.append(finished)
        yield finished
    if jax.process_count() > 1:
        content = packed(merged(groups)) if groups else b""
        for index, other in enumerate(gather_bytes(content)):
            if other and index != jax.process_index():
                yield unpacked(other)


def packed(finished: Finished) -> bytes:
    """A group as bytes, with the types that it has."""
    buffer = io.BytesIO()
    np.savez(buffer, **finished._asdict())
    return buffer.getvalue()


def unpacked(content: bytes) -> Finished:
    """What `packed` made bytes of."""
    return Finished(**parse_arrays(io.BytesIO(content)))


def agreed(setup: Mapping[str, Any], answers: Callable[[], Float[np.ndarray, "N C"]]) -> Any:
    """The network's answers to the clean images, the first process's in all.

    Args:
      setup: what must be the same in all processes, as plain JSON values.
      answers: asks the network.

    Raises:
      InputError: in every process, if they were given different things.
    """
    if jax.process_count() == 1:
        return answers()
    words = hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).digest()
    if len(set(gather_bytes(words))) > 1:
        raise InputError(
            "the processes were given different images, labels, keys or settings of attacks: "
            "give all the same."
        )
    first, *others = gather_processes(answers())
    if not all(is_close(first, other) for other in others):
        raise InputError("the processes were given different networks: give all the same.")
    return first


def open_ledger(
    directory: Path | None, setup: Mapping[str, Any], clean_logits: Float[np.ndarray, "N C"]
) -> Ledger:
    """A `Store`, or among several processes the first one's.

    Raises:
      InputError: in every process, as `Store` does.
    """
    if jax.process_count() == 1:
        return Store(directory, setup, clean_logits)
    return _FirstStore(directory, setup, clean_logits)


class _FirstStore:
    """The first process's store: it alone reads and writes, all know what it reads."""

    def __init__(
        self,
        directory: Path | None,
        setup: Mapping[str, Any],
        clean_logits: Float[np.ndarray, "N C"],
    ) -> None:
        self._store = Store(None, setup, clean_logits)

        def open_it() -> None:
            self._store = Store(directory, setup, clean_logits)

        on_first(open_it)

    def load(self, attack: str, image_shape: tuple[int, ...]) -> Iterator[tuple[Finished, float]]:
        groups: list[tuple[Finished, float]] = []
        on_first(lambda: groups.extend(self._store.load(attack, image_shape)))
        content = packed(merged([finished for finished, _ in groups])) if groups else b""
        content = gather_bytes(content)[0]
        if is_first():
            yield from groups
        elif content:
            yield unpacked(content), 0.0

    def add(self, attack: str, finished: Finished) -> None:
        self._store.add(attack, finished)

    def flush(self) -> None:
        self._store.flush()
