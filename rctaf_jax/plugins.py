"""Parts from elsewhere: `package.module:name`, and the entry points of installed packages.

A package offers a part under a name by an entry point in one of the groups `rctaf_jax.activations`,
`rctaf_jax.methods`, `rctaf_jax.models` and `rctaf_jax.datasets`:

    [project.entry-points."rctaf_jax.activations"]
    wave = "their_package.activations:wave"
"""

import importlib
import os
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from rctaf_jax.errors import InputError, MissingPartError
from rctaf_jax.values import shortened

LONGEST_ERROR = 160
"""Characters of what somebody's code says."""
PLACE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""package.module:name."""


def find_part(kind: str, name: str) -> Any:
    """The part that somebody's package has under a name, None if nobody has.

    Args:
      kind: of part, which is also the end of the entry points' group: activations, methods, models
        or datasets.
      name: package.module:name, or the name of an entry point.

    Raises:
      InputError: if what the name says cannot be imported.
    """
    if PLACE.fullmatch(name):
        return import_part(name)
    for entry in entry_points(group=f"rctaf_jax.{kind}"):
        if entry.name == name:
            return import_part(entry.value)
    return None


def import_part(text: str) -> Any:
    """What "package.module:name" stands for; modules are also looked for in the current folder.

    Raises:
      MissingPartError: if there is no such module, or it has no such name.
      InputError: if it fails as it is imported.
    """
    module_name, _, name = text.partition(":")
    here = os.getcwd()
    if here not in sys.path:  # as `python -m` has it
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        raise MissingPartError(
            f"{text} cannot be imported: there is no module {error.name!r}, neither installed nor "
            f"in {here}."
        ) from None
    except AttributeError:
        raise MissingPartError(f"{text} cannot be imported: {module_name} has no {name}.") from None
    except Exception as error:
        raise InputError(f"{text} cannot be imported: {describe_error(error)}.") from error


def describe_error(error: Exception) -> str:
    """An error of somebody's code in one line, with its place.

    Example:
      >>> describe_error(ValueError("no"))
      'ValueError: no'
    """
    frame, place = error.__traceback__, ""
    while frame is not None:
        place = f" at {Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}"
        frame = frame.tb_next
    said = shortened(" ".join(str(error).split()), LONGEST_ERROR).rstrip(".")
    return f"{type(error).__name__}{place}: {said}"
