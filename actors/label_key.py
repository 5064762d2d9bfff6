"""A person labels frames with a key: held down while the task is done."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serl_core.clock import Clock
from serl_core.errors import ConfigError
from serl_core.robots.messages import RobotState

KEY = " "
REPEAT_S = 0.7  # a terminal repeats a held key after up to this long, and says nothing of its release


class KeyLabel:
    """Success while the key is held; nothing for a moment after it was last seen, for it may still be held.

    Args:
        keys: returns what was typed since the last call, without blocking.
    """

    def __init__(self, keys: Callable[[], str], now: Clock = time.monotonic) -> None:
        self._keys = keys
        self._now = now
        self._seen_s = -float("inf")

    def begin_episode(self) -> None:
        """Forget what was typed before, as during the reset; but then the key may still be held."""
        self._seen_s = self._now() if KEY in self._keys() else -float("inf")

    def __call__(self, state: RobotState) -> bool | None:
        """Return the label of this step: success, no success, or None where it is not known."""
        if KEY in self._keys():
            self._seen_s = self._now()
            return True
        return None if self._now() - self._seen_s < REPEAT_S else False


@contextmanager
def terminal_keys() -> Iterator[Callable[[], str]]:
    """Yield a function that returns what was typed since its last call; the terminal shows none of it meanwhile.

    Raises:
        ConfigError: the program was not started in a terminal.
    """
    if not sys.stdin.isatty():
        raise ConfigError("label: by key needs a terminal, and the input is not one; start the program in a terminal")
    import termios  # not on every system
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda: read_waiting(terminal)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def read_waiting(descriptor: int) -> str:
    """Return what waits to be read, without blocking."""
    text = ""
    while select.select([descriptor], [], [], 0.0)[0]:
        block = os.read(descriptor, 4096)
        if not block:
            break
        text += block.decode(errors="replace")
    return text
