"""Calls that a person makes, or decides, and no program many times: a limit on their rate (SAFETY.md 2.2, rule 8)."""

import time
from collections import deque
from collections.abc import Callable

from robot_servers.limits import Refusal

CALLS_PER_MINUTE = 20
MINUTE_S = 60.0


class RareCalls:
    """Counts those that were carried out, of all clients together."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._calls: deque[float] = deque(maxlen=CALLS_PER_MINUTE)

    def check(self) -> None:
        """Refuse one more (429) when there were too many within a minute."""
        if len(self._calls) < CALLS_PER_MINUTE:
            return
        wait_s = MINUTE_S - (self._clock() - self._calls[0])
        if wait_s > 0.0:
            detail = f"{CALLS_PER_MINUTE} calls that change the arm's payload or end a fault came within a minute"
            raise Refusal(429, "rate", f"{detail}; wait {wait_s:.0f} s", limit=CALLS_PER_MINUTE)

    def count(self) -> None:
        """Take note of one that was carried out."""
        self._calls.append(self._clock())
