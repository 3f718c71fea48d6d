"""Files and folders: writers that leave the old one or the new one, never half of either.

A sweep runs for hours and may be stopped at any moment, so each file is written beside its
destination, flushed to the disk, and then renamed onto it in one step.
"""

import errno
import io
import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rctaf_jax.errors import InputError


def expand_home(text: str | os.PathLike[str]) -> Path:
    """A path that a user gave, ~ and ~user replaced by the home folder.

    Raises:
      InputError: if there is no such user, or no file can be named so.
    """
    if "\0" in os.fspath(text):
        raise InputError(f"{os.fspath(text)!r} names no file: it holds a NUL character.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(f"{os.fspath(text)}: there is no such user.") from None


def write_text_atomic(path: str | os.PathLike[str], text: str) -> Path:
    """Writes `text` as UTF-8 to `path`, all of it or none of it; returns the path.

    Bytes of a name that are no text, which Python keeps as lone surrogates, become \\udcXX, as
    JSON has them.
    """
    return write_bytes_atomic(path, text.encode("utf-8", "backslashreplace"))


def write_bytes_atomic(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes `content` to `path`, all of it or none of it; returns the path.

    The folder must exist; the temporary file lies in it, since only a rename inside one file
    system is atomic.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _naming(path, error) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Adds a line to a text file, all of it or none of it.

    Raises:
      OSError: that names `path`, which is then as it was.
    """
    with open(path, "ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        content = (line + "\n").encode("utf-8")
        try:
            if file.write(content) < len(content):  # the disk took a part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            file.truncate(size)
            raise _naming(path, error) from None


def _naming(path: str | os.PathLike[str], error: OSError) -> OSError:
    """The error with the name that the caller knows, not that of a temporary file, or none."""
    reason = error.strerror or str(error)
    return OSError(error.errno or errno.EIO, reason, os.fspath(path))


def is_free(path: Path) -> bool:
    """Whether what is at `path` is a folder with nothing in it.

    Hidden files do not count: a lock, and what a writer that was killed left of its file.
    """
    return path.is_dir() and all(inner.name.startswith(".") for inner in path.iterdir())


def read_folder(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """All files below `folder`, by their paths in it."""
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_folder_atomic(
    folder: str | os.PathLike[str], files: Mapping[str, bytes], *, workplace: Path
) -> Path:
    """Writes `read_folder`'s files to `folder`, all of them or none; returns the path.

    A folder that is there is replaced. The files are written below `workplace`, a folder on the
    same file system that nobody reads, since a crash may leave some of them there.
    """
    folder, aside = Path(folder), workplace / uuid.uuid4().hex
    try:
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(aside / name, content)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return folder


def write_arrays(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], *, compressed: bool = True
) -> Path:
    """Writes an .npz, atomically; returns the path. Noise is not worth compressing."""
    buffer = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(buffer, **arrays)  # type: ignore[arg-type]
    return write_bytes_atomic(path, buffer.getvalue())


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any] | Sequence[Any]) -> Path:
    """Writes `value` as indented JSON, atomically; returns the path.

    Raises:
      ValueError: if `value` holds a NaN or an infinity, which JSON does not have: write null or
        the word "inf".
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return write_text_atomic(path, text + "\n")
