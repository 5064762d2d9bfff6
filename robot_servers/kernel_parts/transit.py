"""How long commands are on their way, told without one clock for two computers.

A client stamps its commands with its own monotonic clock. The difference to the server's is the unknown offset of
the two clocks plus the time on the way, so the smallest difference of late is the quickest way there is: a command
that took longer than that was held up by the difference (the minimum filter of NTP, RFC 5905 section 10).
"""

import math

WINDOW_S = 30.0  # what is remembered is one to two of these: clocks drift by at most 0.1 ms/s


class Transit:
    """The quickest way of one client's commands. Times in s; the client's clock is its own, the server's is one."""

    def __init__(self) -> None:
        """Know of no command."""
        self._window_s = -math.inf  # when the present window began
        self._quickest = math.inf  # arrival - sending, in the present window
        self._quickest_before = math.inf  # in the one before

    def delay_s(self, sent_s: float, arrived_s: float) -> float:
        """Return how much longer than the quickest a command took; 0 for the first. Changes nothing."""
        age_s = arrived_s - self._window_s
        known = [self._quickest] if age_s < 2.0 * WINDOW_S else []
        known += [self._quickest_before] if age_s < WINDOW_S else []
        difference = arrived_s - sent_s
        return max(0.0, difference - min(known, default=math.inf))

    def note(self, sent_s: float, arrived_s: float) -> None:
        """Take note of a command that was accepted."""
        age_s = arrived_s - self._window_s
        if age_s >= WINDOW_S:
            self._quickest_before = self._quickest if age_s < 2.0 * WINDOW_S else math.inf
            self._quickest, self._window_s = math.inf, arrived_s
        self._quickest = min(self._quickest, arrived_s - sent_s)
