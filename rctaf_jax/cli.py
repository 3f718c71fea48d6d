"""The command `rctaf`: arguments, errors and exit codes; the work is in `experiments`."""

import logging
import os
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console

from rctaf_jax.errors import InputError, Preempted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code.

    0 done or told to stop, 2 bad input or files that cannot be written, 130 interrupted, 141
    nobody reads the output any more.
    """
    try:
        try:
            return run(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes again as it ends, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        print(f"rctaf: {describe_failure(error)}", file=sys.stderr)
        return 2


def run(words: list[str]) -> int:
    """Run one command, however it ends; the exit code."""
    # XLA logs harmless lines on stderr unless told otherwise before it is loaded.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.ERROR)
    from rctaf_jax.experiments.command.parse import parse

    try:
        parse(words).run(make_console(), shlex.join(["rctaf", *words]))
    except InputError as error:
        print(f"rctaf: {error}", file=sys.stderr)
        return 2
    except Preempted as told:
        print(f"rctaf: {told}", file=sys.stderr)
    except KeyboardInterrupt:
        print("rctaf: interrupted; give the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def describe_failure(error: OSError) -> str:
    """What the system refused, and what can be done.

    >>> describe_failure(PermissionError(13, "Permission denied", "/root/runs")).partition(";")[0]
    '/root/runs: Permission denied'
    """
    reason = error.strerror or " ".join(str(error).split())
    where = "" if error.filename is None else f"{error.filename}: "
    return (
        f"{where}{reason}; choose a place that can be written, such as another --output; what was "
        "done before is kept."
    )


class Terminal(Console):
    """A console that lets its caller know when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled."""
        raise


def make_console() -> Console:
    """The terminal, or 100 columns where the output goes to a file."""
    console = Terminal()
    return console if console.is_terminal else Terminal(width=100)
