"""Progress of long work on the terminal: a bar where there is one, lines where there is none."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rctaf_jax.eval.autoattack.ensemble import AttackProgress

from .terminal import say


def make_bars(console: Console) -> Progress:
    """Bars that show count, elapsed and remaining time, and a few words."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


class SweepProgress:
    """Members done, and the steps of the one under way."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = make_bars(console)
        self._members = self._bars.add_task("members", total=None, note="")
        self._steps = self._bars.add_task("steps", total=None, note="")
        self._reported = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def start(self, total: int, done: int) -> None:
        """So many members in all, so many done before."""
        self._bars.update(self._members, total=total, completed=done)
        if done:
            self.console.print(f"{done} of {total} members are done already.")

    def group(self, ids: list[str], num_steps: int) -> None:
        """These members start training together."""
        self._bars.reset(self._steps, total=num_steps, note=f"training {', '.join(ids)}")
        self._reported = time.monotonic()

    def step(self, step: int, total: int, loss: float, images: int) -> None:
        """Training has done `step` steps, the last of them on `images` images."""
        now = time.monotonic()
        rate, self._reported = images / max(now - self._reported, 1e-9), now
        note = f"loss {loss:.3f}, {rate:,.0f} images/s"
        self._bars.update(self._steps, total=total, completed=step, note=note)

    def phase(self, name: str) -> None:
        """What comes after training."""
        self._bars.update(self._steps, note=name)

    def lost(self, ids: list[str], reason: str) -> None:
        """These members' worker was lost; they are tried again."""
        text = f"{', '.join(ids)}: lost ({reason}), tried again"
        say(self.console, text)

    def member(self, text: str) -> None:
        """A member is done; `text` says how it came out."""
        self._bars.advance(self._members)
        say(self.console, text)


def show_attacks(bars: Progress) -> Callable[[AttackProgress], None]:
    """A bar for each attack: the images that it is done with, and robust accuracy so far."""
    tasks: dict[int, TaskID] = {}

    def show(progress: AttackProgress) -> None:
        number, note = progress.number, f"robust {100 * progress.robust_accuracy:.2f}%"
        if number not in tasks:
            label = f"{progress.attack} ({number} of {progress.num_attacks})"
            tasks[number] = bars.add_task(label, total=progress.num_examples, note="")
        bars.update(tasks[number], completed=progress.num_done, note=note)

    return show
