"""Standard streams that take every word: none closed, no letter that an encoding lacks."""

import codecs
import os
import sys
import unicodedata

PLAIN = {
    "\N{PRIME}": "'",
    "″": "''",
    "‴": "'''",
    "√": "sqrt",
    "∂": "d",
    "∞": "inf",
    "±": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "·": "*",
    "²": "^2",
    "³": "^3",
    "≤": "<=",
    "≥": ">=",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "•": "*",
    **dict.fromkeys("│┃╵╷", "|"),
    **dict.fromkeys("─━╴╶╸╺", "-"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+"),
}
"""What is printed for signs that an encoding lacks."""
_ERRORS = "rctaf-plain"


def _in_plain_letters(error: UnicodeError) -> tuple[str, int]:
    """A handler for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(map(plain, letters)), error.end


def plain(letter: str) -> str:
    """A letter in ASCII: as above, a Greek one's name, another without its accents, or ?.

    >>> plain("±"), plain("σ"), plain("Σ"), plain("é"), plain("漢")
    ('+-', 'sigma', 'Sigma', 'e', '?')
    """
    if letter in PLAIN:
        return PLAIN[letter]
    script, _, name = unicodedata.name(letter, "").partition(" ")
    if script == "GREEK" and " LETTER " in name:
        size, _, name = name.partition(" LETTER ")
        return name.lower() if size == "SMALL" else name.capitalize()
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or "?"


codecs.register_error(_ERRORS, _in_plain_letters)


def fitting(text: str, encoding: str) -> str:
    """A text in which an encoding's letters stand for those that it lacks.

    >>> fitting("max|σ″| = 7 ± 1", "latin-1")
    "max|sigma''| = 7 ± 1"
    """
    return text.encode(encoding, errors=_ERRORS).decode(encoding)


def prepare() -> bool:
    """Make both output streams safe to print to; whether somebody may read stdout.

    A descriptor that is closed would be the next file's that is opened, and what some library
    prints would go into that file; so it is opened on nothing first.
    """
    is_read = sys.stdout is not None
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):  # not so where a test captures
            reconfigure(errors=_ERRORS)
    return is_read


def drop_output() -> None:
    """Forget what stdout still holds: Python would try again as it ends, and complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
