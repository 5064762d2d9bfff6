"""A thread that does the same thing again and again while somebody looks on, and ends when told to."""

import threading
import time
from collections.abc import Callable


class Repeating:
    """Calls `work` every `period_s` while `is_wanted` is set. A call that takes longer delays the next one only.

    Args:
        work: may block; what it raises ends the thread, so it handles its own failures.
        at_end: called by the thread when it ends.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        period_s: float,
        is_wanted: threading.Event,
        at_end: Callable[[], None],
    ) -> None:
        self._work = work
        self._period_s = period_s
        self._is_wanted = is_wanted
        self._at_end = at_end
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """Ask the thread to end; it is not waited for, because its work may hang on the network."""
        self._is_ending.set()

    def _run(self) -> None:
        next_s = time.monotonic()
        try:
            while not self._is_ending.is_set():
                if not self._is_wanted.wait(self._period_s):
                    next_s = time.monotonic()
                    continue
                self._work()
                next_s = max(next_s + self._period_s, time.monotonic())
                self._is_ending.wait(next_s - time.monotonic())
        finally:
            self._at_end()
