"""What may wait takes turns, and between two the event loop looks for commands.

A command that comes with a crowd of requests waits for one of them, and not for the crowd.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

LOOKS = 3  # of the loop: for what a turn has begun, for what comes meanwhile, and for the task that this wakes


class Turns:
    """Of one event loop; `turns` returns those of the running one."""

    def __init__(self) -> None:
        """Begin."""
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_looking = False

    def take(self, act: Callable[[], object]) -> None:
        """Call `act` when its turn has come: at once if nobody had one just now."""
        self._waiting.append(act)
        if not self._is_looking:
            self._next()

    def _next(self) -> None:
        self._is_looking = bool(self._waiting)
        if self._waiting:
            self._look(LOOKS)
            self._waiting.popleft()()

    def _look(self, left: int) -> None:
        if left:
            asyncio.get_running_loop().call_soon(self._look, left - 1)
        else:
            self._next()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """Return the turns of the running event loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), Turns())
