"""The folder in which an ensemble of attacks keeps what it has done, so that it can go on.

    setup.json              norm, epsilon, attacks, key, and the hash of the images and labels
    clean_logits.npz        by which the network is known again
    ATTACK/000001.npz       examples that an attack is done with, and what became of them

Files are written whole or not at all. An example that is in one of them is not attacked again.
"""

import time
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from rctaf_jax.array_file import damaged, read_arrays
from rctaf_jax.errors import InputError
from rctaf_jax.files import write_arrays, write_json
from rctaf_jax.typed_json import read_json

from .pool import Finished, merged

SETUP, LOGITS = "setup.json", "clean_logits.npz"
REMEDY = "run the same again to attack only the examples that were in it"
FLUSH_SECONDS = 1.0
"""A file holds what finished within so much time, so that a killed attack loses no more."""


class Ledger(Protocol):
    """What an ensemble is done with: read before each attack, added to as it goes."""

    def load(self, attack: str, image_shape: tuple[int, ...]) -> Iterator[tuple[Finished, float]]:
        """What an attack is done with: groups of examples, and the seconds that each took."""

    def add(self, attack: str, finished: Finished) -> None:
        """Takes in examples that an attack is done with."""

    def flush(self) -> None:
        """Called when an attack ends, interrupted or not."""


class Store:
    """Keeps finished examples in memory, and in a folder where one is given.

    Args:
        directory: the folder, made if need be; None keeps nothing on the disk.
        setup: what must be the same for the folder to go on, as plain JSON values.
        clean_logits: the network's answers to the clean images; a network that answers otherwise
            (relative difference above 1e-3) is another one.

    Raises:
        InputError: if the folder belongs to something else, or a file in it is damaged (which is
            kept aside, so that the next call goes on without it).
    """

    def __init__(
        self,
        directory: Path | None,
        setup: Mapping[str, Any],
        clean_logits: Float[np.ndarray, "N C"],
    ) -> None:
        self.directory, self._num_examples = directory, len(clean_logits)
        self._unwritten: dict[str, list[Finished]] = {}
        self._since = time.monotonic()
        if directory is None:
            return
        if directory.exists() and not directory.is_dir():
            raise InputError(f"{directory} is a file: give a folder for the attack's results")
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / SETUP).exists():
            _check_setup(directory, setup)
        if (directory / LOGITS).exists():
            _check_network(directory, clean_logits)
        write_arrays(directory / LOGITS, {"clean_logits": clean_logits})
        write_json(directory / SETUP, setup)

    def load(self, attack: str, image_shape: tuple[int, ...]) -> Iterator[tuple[Finished, float]]:
        """What earlier calls finished: groups of examples, and the seconds that each took.

        Args:
            attack: its name.
            image_shape: height, width and channels of the attacked images.

        Raises:
            InputError: if a file is damaged, or holds what no attack on these images writes.
        """
        if self.directory is None:
            return
        known: set[int] = set()
        for path in sorted((self.directory / attack).glob("*.npz")):
            arrays = _read(path, *Finished._fields, "seconds")
            finished = Finished(*(arrays[name] for name in Finished._fields))
            fault = _fault_of_group(
                finished, arrays["seconds"], self._num_examples, known, image_shape
            )
            if fault is not None:
                raise damaged(path, fault, REMEDY)
            known |= set(finished.example.tolist())
            yield finished, float(arrays["seconds"])

    def add(self, attack: str, finished: Finished) -> None:
        """Takes in examples that an attack is done with; writes them every now and then."""
        if self.directory is None:
            return
        self._unwritten.setdefault(attack, []).append(finished)
        if time.monotonic() - self._since > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what is not written yet."""
        now = time.monotonic()
        # Attacks that run at the same time, on a cluster, share the clock.
        seconds = (now - self._since) / max(len(self._unwritten), 1)
        for attack, groups in self._unwritten.items():
            assert self.directory is not None
            folder = self.directory / attack
            folder.mkdir(exist_ok=True)
            numbers = [int(path.stem) for path in folder.glob("*.npz") if path.stem.isdecimal()]
            path = folder / f"{max(numbers, default=0) + 1:06d}.npz"
            write_arrays(path, {**merged(groups)._asdict(), "seconds": np.array(seconds)})
        self._unwritten, self._since = {}, now


def _check_setup(directory: Path, setup: Mapping[str, Any]) -> None:
    before = read_json(directory / SETUP)
    different = sorted(k for k in before.keys() | setup.keys() if before.get(k) != setup.get(k))
    if different:
        name = different[0]
        raise InputError(
            f"{directory} holds an attack with another {name}: {before.get(name)} there, "
            f"{setup.get(name)} here; give another folder."
        )


def _check_network(directory: Path, clean_logits: Float[np.ndarray, "N C"]) -> None:
    known = _read(directory / LOGITS, "clean_logits")["clean_logits"]
    if not is_close(known, clean_logits):
        raise InputError(
            f"{directory} holds an attack on another network: its answers to the clean images are "
            "not this one's; give another folder."
        )


def is_close(known: np.ndarray, here: np.ndarray) -> bool:
    """Whether two arrays of logits may be one network's, on two devices."""
    if known.shape != here.shape or known.dtype.kind != "f":
        return False
    scale = max(float(np.abs(np.nan_to_num(known, posinf=0, neginf=0)).max()), 1e-30)
    return np.allclose(known, here, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)


def _read(path: Path, *names: str) -> dict[str, np.ndarray]:
    return read_arrays(path, remedy=REMEDY, names=names)


def _fault_of_group(
    finished: Finished,
    seconds: np.ndarray,
    num_examples: int,
    known: Set[int],
    image_shape: tuple[int, ...],
) -> str | None:
    """Why a group of examples cannot be what an attack wrote; None if it can.

    Args:
        finished: the group.
        seconds: that it took.
        num_examples: of the dataset.
        known: examples of the groups before it.
        image_shape: of the dataset's images.
    """
    example, images = finished.example, finished.adversarial
    if images.dtype.kind != "f" or images.ndim != 4 or images.shape[1:] != image_shape:
        return f"adversarial is of type {images.dtype} and shape {images.shape}"
    kinds = {"example": "iu", "is_broken": "b", "nonfinite": "b", "num_steps": "iu"}
    for name, kind in kinds.items():
        array = getattr(finished, name)
        if array.dtype.kind not in kind or array.shape != images.shape[:1]:
            return f"{name} is of type {array.dtype} and shape {array.shape}"
    if not ((images >= 0) & (images <= 1)).all():
        return "an adversarial image has pixels outside of 0 to 1"
    if not ((example >= 0) & (example < num_examples)).all():
        return f"an example is none of the {num_examples}"
    if len(set(example.tolist()) - known) < len(example):
        return "an example is in it or in an earlier file too"
    if (finished.num_steps < 0).any():
        return "a number of steps is negative"
    if seconds.shape != () or seconds.dtype.kind != "f" or not 0 <= seconds < np.inf:
        return "the seconds are no number of 0 or more"
    return None
