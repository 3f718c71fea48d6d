"""The question on the terminal."""

import io

import pytest
from rich.console import Console

from rctaf_jax.experiments.show.terminal import confirm


class Typed(io.StringIO):
    """What somebody types, and the end of it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "answer"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_the_end_of_the_input_is_a_no(monkeypatch, typed, answer):
    monkeypatch.setattr("sys.stdin", Typed(typed))
    console = Console(file=io.StringIO(), force_terminal=True)
    assert confirm("It takes a day.", console) is answer
    assert "It takes a day. Start?" in console.file.getvalue()


def test_without_a_terminal_nobody_is_asked():
    console = Console(file=io.StringIO())
    assert not confirm("It takes a day.", console)
    assert console.file.getvalue() == "It takes a day.\n"
