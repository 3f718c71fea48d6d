"""SIGTERM, by which clusters take a machine back: asked for once, obeyed between two steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def watch_for_termination() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM into a question: yields `requested() -> bool`.

    Outside the main thread, where Python takes no signals, the answer is always no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
