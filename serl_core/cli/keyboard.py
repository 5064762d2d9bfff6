"""Keys as a person presses them in a terminal."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable


@runtime_checkable  # the type checks under pytest ask for it
class Keyboard(Protocol):
    """What keys come from, such as `sys.stdin`."""

    def isatty(self) -> bool:
        """Say whether it is a terminal, which gives each key as it is pressed."""

    def fileno(self) -> int:
        """Return the terminal's descriptor."""

    def __iter__(self) -> Iterator[str]:
        """Return the lines of what is no terminal."""


@contextmanager
def single_keys(source: Keyboard) -> Iterator[Iterator[str]]:
    """Yield the keys as they are pressed, without echo or Enter. What is no terminal is read to its end."""
    if not source.isatty():
        yield (key for line in source for key in line.rstrip("\n"))
        return
    import termios  # not on every system
    import tty

    terminal = source.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        # Keys that come during a step are dropped: the arm must not go on after its key is let go.
        yield _pressed(terminal, forget=lambda: termios.tcflush(terminal, termios.TCIFLUSH))
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _pressed(terminal: int, forget: Callable[[], None]) -> Iterator[str]:
    while key := os.read(terminal, 1):
        yield key.decode("ascii", errors="replace")
        forget()
