"""The command `rctaf`: arguments, errors and exit codes; the work is in `experiments`."""

import contextlib
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.console import Console
from rich.text import Text

from rctaf_jax import program_cache, streams
from rctaf_jax.errors import InputError, Preempted, describe_failure
from rctaf_jax.files import expand_home
from rctaf_jax.values import shortened

LONGEST_WORD = 4096
"""Characters of an argument: the longest path that Linux takes."""

FORGET_PROGRAMS = "--no-compilation-cache"
"""A flag of every command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code.

    0 done or told to stop, 2 bad input or files that cannot be written, 130 interrupted, 141
    nobody reads the output any more.
    """
    is_read = streams.prepare()
    try:
        try:
            if not is_read:
                raise InputError("nobody reads the output, which is closed: give it > /dev/null.")
            return run(list(sys.argv[1:] if arguments is None else arguments))
        except InputError as error:
            return complain(str(error), 2)
        except Preempted as told:
            return complain(str(told), 0)
        except (KeyboardInterrupt, ImportError) as error:
            # Compiled modules that are interrupted as they load make an ImportError of it; JAX,
            # interrupted as it compiles, gives it a cause.
            if not any(isinstance(one, KeyboardInterrupt) for one in (error, error.__cause__)):
                raise
            return complain("interrupted; give the same command again to go on.", 130)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        streams.drop_output()
        return 141
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:  # it is the output that cannot be written
            streams.drop_output()
        return complain(describe_failure(error), 2)


def run(words: list[str]) -> int:
    """Run one command.

    Raises:
      InputError, OSError, Preempted, KeyboardInterrupt: as it ends, where it is not done.
    """
    check_words(words)
    if words == ["--version"]:
        print(f"rctaf-jax {version('rctaf-jax')}")
        return 0
    words = [with_home(word) for word in words]
    hush()
    from rctaf_jax.experiments.command.parse import parse

    command = parse([word for word in words if word != FORGET_PROGRAMS])
    console = make_console()
    folder = None if FORGET_PROGRAMS in words else program_cache.keep_programs()
    if folder:
        kept = f"Compiled programs are kept in {folder} ({FORGET_PROGRAMS}: they are not)."
        console.print(kept, highlight=False, markup=False, soft_wrap=True)
    command.run(console, shlex.join(["rctaf", *words]))
    return 0


def hush() -> None:
    """Keep libraries from speaking beside the one sentence, before they are loaded."""
    # XLA logs harmless lines on stderr.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Orbax logs the traceback of each error that it raises, from threads of its own. Then it leaves
    # coroutines, of which Python would speak as it ends, and TensorStore calls a closed event loop.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = print_unless_closed
    warnings.formatwarning = as_sentence


def as_sentence(message: Warning | str, *_: Any, **__: Any) -> str:
    """A `warnings.formatwarning` without the line of a source file.

    >>> as_sentence("gradients are zero.", UserWarning, "eval/pgd.py", 3)
    'rctaf: warning: gradients are zero.\\n'
    """
    return f"rctaf: warning: {readable(str(message))}\n"


def print_unless_closed(what: Any) -> None:
    """A `sys.unraisablehook`, silent on calls of an event loop that an error has closed."""
    if str(what.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(what)


def check_words(words: Sequence[str]) -> None:
    """Refuse words that no flag can want, before anything makes a path of them.

    Raises:
      InputError: naming the first.
    """
    for number, word in enumerate(words, start=1):
        if not word:
            raise InputError(f"argument {number} is empty: leave it out, or give a value.")
        if len(word) > LONGEST_WORD:
            raise InputError(
                f"argument {number}, {shortened(word)}, has {len(word):,} characters: none may "
                f"have more than {LONGEST_WORD:,}."
            )
        if "\0" in word:
            raise InputError(f"argument {number}, {shortened(word)!r}, holds a NUL character.")
        if any("\ud800" <= letter <= "\udfff" for letter in word):  # how Python keeps such bytes
            raise InputError(
                f"argument {number}, {shortened(word)!r}, has bytes that are no UTF-8."
            )


def with_home(word: str) -> str:
    """A word whose value begins with ~ with the home folder there, as a shell would have it.

    >>> with_home("--data=~nobody-of-that-name/x")
    Traceback (most recent call last):
        ...
    rctaf_jax.errors.InputError: ~nobody-of-that-name/x: there is no such user.
    """
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return f"{flag}{equals}{expand_home(value)}" if value.startswith("~") else word


def complain(sentence: str, code: int) -> int:
    """Say on stderr how a command ended; returns the exit code."""
    with contextlib.suppress(OSError):  # where nobody listens, the exit code says it
        print(f"rctaf: {readable(sentence)}", file=sys.stderr, flush=True)
    return code


def readable(sentence: str) -> str:
    """A sentence of which every word, and the whole, can be read at a glance.

    >>> len(readable("x" * 100_000 + " is not a number.")) < 120
    True
    """
    # A path is cut only where it is longer than any that a person would copy.
    words = re.sub(r"\S{256,}", lambda word: shortened(word.group()), " ".join(sentence.split()))
    return shortened(words, 1500)


class Terminal(Console):
    """A console that lets its caller know when nobody reads any more, and knows its letters."""

    def render_str(self, text: str, **settings: Any) -> Text:
        """Text for the terminal, without letters that it lacks, before columns are measured."""
        return super().render_str(streams.fitting(text, self.encoding), **settings)

    def on_broken_pipe(self) -> None:
        """Called while a BrokenPipeError is handled."""
        raise


def make_console() -> Console:
    """The terminal, or 100 columns where the output goes to a file."""
    console = Terminal()
    return console if console.is_terminal else Terminal(width=100)
