"""Signals that end a program, as an event."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def set_by_signals(event: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set the event; the handlers from before come back afterwards. For the main thread."""
    before = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
