"""The reader of .npz files, which believes nothing: not a size, not a type, not a checksum.

An .npz is a zip archive whose entries are NumPy's .npy. Each entry's header is compared with the
archive's directory before memory is allocated for it.
"""

import io
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Shaped

from rctaf_jax.errors import InputError

Arrays = dict[str, Shaped[np.ndarray, "..."]]

_DAMAGE = (
    EOFError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile and NumPy raise for an archive that is not what was written."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that NumPy writes
_KINDS = "biufcU"
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_HEADER_BYTES = 10_000 + 16  # NumPy's own limit, and what precedes it


def read_arrays(
    path: str | os.PathLike[str],
    *,
    remedy: str,
    names: Collection[str] = (),
    keeps_aside: bool = True,
) -> Arrays:
    """Reads an .npz; a damaged one is kept aside under another name.

    Args:
      path: of the file.
      remedy: what the user is told to do about a missing or damaged one.
      names: of arrays that it must hold, or it is called damaged.
      keeps_aside: whether a damaged file is renamed, so that the same again goes on without it;
        otherwise it stays where it is.

    Raises:
      InputError: if it is missing or damaged.
      OSError: if the system does not let it be read; it stays where it is.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            arrays = parse_arrays(file)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {remedy}.") from None
    except ValueError as error:
        raise damaged(path, str(error), remedy, keeps_aside=keeps_aside) from None
    for name in names:
        if name not in arrays:
            raise damaged(path, f"it holds no array {name}", remedy, keeps_aside=keeps_aside)
    return arrays


def damaged(path: Path, reason: str, remedy: str, *, keeps_aside: bool = True) -> InputError:
    """The error to raise about a damaged file, which is kept aside under another name."""
    if not keeps_aside:
        return InputError(f"{path} is damaged ({reason}); {remedy}.")
    aside = path.with_name(path.name + ".damaged")
    path.replace(aside)
    return InputError(f"{path} is damaged ({reason}) and was kept aside as {aside.name}; {remedy}.")


def parse_arrays(file: IO[bytes]) -> Arrays:
    """All arrays of an .npz: of numbers, truth values and text, whose checksums are right.

    Raises:
      ValueError: for everything else, with the reason.
      OSError: if the system does not let it be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            names = [_array_name(entry) for entry in entries]
            if len(set(names)) < len(names):
                raise ValueError("it holds two arrays of one name")
            return {
                name: _read(archive, entry, name)
                for name, entry in zip(names, entries, strict=True)
            }
    except _DAMAGE as error:
        raise ValueError(str(error) or type(error).__name__) from None


def _array_name(entry: zipfile.ZipInfo) -> str:
    name = entry.filename.removesuffix(".npy")
    if name == entry.filename or not name.isprintable():
        raise ValueError(f"{entry.filename[:60]!r} is no array")
    if entry.flag_bits & 1 or entry.compress_type not in _METHODS:
        raise ValueError(f"{name[:60]} is encrypted, or compressed as NumPy never does")
    if entry.header_offset < 0:  # zipfile would raise an OSError, as if the system refused
        raise ValueError(f"{name[:60]} is nowhere")
    return name


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> np.ndarray:
    with archive.open(entry) as stream:
        _check_header(stream.read(_HEADER_BYTES), entry.file_size, name)
    with archive.open(entry) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read(1)  # the end, where zipfile looks at the checksum
    return array


def _check_header(start: bytes, size: int, name: str) -> None:
    """Refuse an entry that is not as long as its header says, or of another kind of values."""
    file = io.BytesIO(start)
    try:
        read_header = _HEADERS[np.lib.format.read_magic(file)]
        shape, _, dtype = read_header(file)
    except Exception as error:  # NumPy evaluates it as Python, and documents no exceptions
        raise ValueError(f"the header of {name} is no array's") from error
    if dtype.kind not in _KINDS or dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"{name} is of type {dtype}, not of numbers, truth values or text")
    if min(shape, default=0) < 0 or file.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name} is not as long as its shape {shape} says")
