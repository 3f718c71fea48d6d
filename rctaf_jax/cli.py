"""The command `rctaf`: arguments, errors and exit codes; the work is in `experiments`."""

import logging
import os
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console

from rctaf_jax.errors import InputError, Preempted

DESCRIPTION = """How an activation's curvature max|sigma''| decides adversarial robustness.

Start with `rctaf sweep`: it trains small networks on the digits that ship with the package and ends
with a report. `rctaf COMMAND --help` explains each command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done or told to stop, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # XLA logs harmless lines on stderr unless told otherwise before it is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    import tyro

    from rctaf_jax.experiments.commands import commands

    try:
        command = tyro.cli(commands(words), args=words, prog="rctaf", description=DESCRIPTION)
        command.run(make_console(), shlex.join(["rctaf", *words]))
    except InputError as error:
        print(f"rctaf: {error}", file=sys.stderr)
        return 2
    except Preempted as told:
        print(f"rctaf: {told}", file=sys.stderr)
    except KeyboardInterrupt:
        print("rctaf: interrupted; give the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def make_console() -> Console:
    """The terminal, or 100 columns where the output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=100)
