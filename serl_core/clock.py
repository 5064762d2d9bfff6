"""Time as an argument: a drift-free rate on a monotonic clock, and a clock for the simulator and tests."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

Clock = Callable[[], float]

KEPT_TICKS = 1000


class ManualClock:
    """A clock that moves only when told: the time of a lockstep simulation, or of a test."""

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def __call__(self) -> float:
        """Return the present time in seconds."""
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Move on by `duration_s` >= 0 seconds."""
        if duration_s < 0:
            raise ValueError(f"time cannot go back: {duration_s} s")
        self._now_s += duration_s

    sleep = advance


class Rate:
    """Ticks at k / hz after the first, whatever the work between them took: it does not drift.

    A tick that is already past when it is asked for is skipped, not caught up: the next one on the
    same schedule follows, so that a pause never ends in a burst of commands. Such late ticks are counted
    in `late`, never hidden. `late_s` has how late each of the last 1000 ticks was, in seconds.
    """

    def __init__(
        self,
        hz: float,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.period_s = 1.0 / hz
        self.late = 0
        self.late_s: deque[float] = deque(maxlen=KEPT_TICKS)
        self._clock = clock
        self._sleep = sleep
        self._next_s: float | None = None

    def restart(self) -> None:
        """Forget the schedule: the next tick is one period from now."""
        self._next_s = self._clock() + self.period_s

    def remaining_s(self) -> float:
        """Return the seconds until the next tick, at least 0, and move the schedule on to the one after it.

        Use it when something else does the waiting, as the robot server, which replies at the tick; then
        call `arrived`.
        """
        now_s = self._clock()
        if self._next_s is None:
            self._next_s = now_s + self.period_s
        late_s = now_s - self._next_s
        if late_s > 0:
            self.late += 1
            self.late_s.append(late_s)
            logger.warning("control tick late by %.1f ms", 1e3 * late_s)
            self._next_s += math.ceil(late_s / self.period_s) * self.period_s
        left_s = max(self._next_s - now_s, 0.0)
        self._next_s += self.period_s
        return left_s

    def arrived(self) -> None:
        """Take note of how late the tick that was waited for is."""
        assert self._next_s is not None, "nothing was waited for: call remaining_s() first"
        self.late_s.append(max(self._clock() - (self._next_s - self.period_s), 0.0))

    def wait(self) -> None:
        """Sleep to the next tick."""
        self._sleep(self.remaining_s())
        self.arrived()
