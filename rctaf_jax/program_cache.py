"""Compiled programs on disk, so that the next command need not compile them again."""

import contextlib
import hashlib
import os
import platform
import warnings
from pathlib import Path

LARGEST = 2 * 1024**3
"""Bytes of the folder; the files that were written longest ago go first."""


def keep_programs() -> Path | None:
    """Let JAX keep what it compiles, in a folder of the user's, for this process and its children.

    Where the environment says something of JAX's own cache, that stands.

    Returns:
      The folder if it is new, else None.
    """
    if {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"} & os.environ.keys():
        return None
    folder = cache_folder()
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(f"compiled programs are not kept: {error}", stacklevel=2)
        return None
    remove_oldest(folder, LARGEST)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    # A file that a killed process left behind, or a full disk, costs no more than compiling again.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    return folder if is_new else None


def cache_folder() -> Path:
    """Where the programs of this machine's kind of processor are: home folders are shared."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "rctaf-jax" / f"programs-{processor()}"


def processor() -> str:
    """A short name for the instructions that this processor has."""
    words = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kinds = ("flags", "Features", "model name")
        words += "".join(sorted({line for line in lines if line.startswith(kinds)}))
    return hashlib.sha256(words.encode()).hexdigest()[:8]


def remove_oldest(folder: Path, largest: int) -> None:
    """Delete files until the folder is not larger than `largest` bytes.

    Another process may do the same at the same time.
    """
    files = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            files.append((about.st_mtime, about.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= largest:
            break
        path.unlink(missing_ok=True)
        total -= size
