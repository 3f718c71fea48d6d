"""Words on the terminal."""

import sys

from rich.console import Console
from rich.prompt import Confirm


def say(console: Console, text: str) -> None:
    """Print plain words: no colours for numbers, no meaning in brackets."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def confirm(sentence: str, console: Console) -> bool:
    """Ask on the terminal; no where there is none, or where its input ends."""
    if not (console.is_terminal and sys.stdin.isatty()):
        say(console, sentence)
        return False
    try:
        return Confirm.ask(f"{sentence} Start?", console=console, default=False)
    except EOFError:
        return False
