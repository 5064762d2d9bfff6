"""How old a browser's command is when it arrives, although its clock and the console's have nothing in common."""

from collections import deque

WINDOW_S = 10.0


class CommandAge:
    """The age of one browser's messages.

    The fastest message of the last seconds is taken to have needed half of the round trip that the page has
    measured (nothing on loopback). What another needed beyond it is delay: a frozen tab, a full network.
    A page whose clock jumps makes everything look old until the window has passed: no command counts then.
    """

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._offsets: deque[tuple[float, float]] = deque()  # (arrival, arrival - sent): rising minima
        self._round_trip_s = 0.0

    def set_round_trip(self, round_trip_s: float) -> None:
        """Take note of what the page has measured."""
        self._round_trip_s = round_trip_s

    def age_s(self, arrived_s: float, sent_s: float) -> float:
        """Return the age of a message at its arrival.

        Args:
            arrived_s: the console's monotonic clock.
            sent_s: the page's clock.
        """
        offset_s = arrived_s - sent_s
        while self._offsets and self._offsets[-1][1] >= offset_s:
            self._offsets.pop()
        self._offsets.append((arrived_s, offset_s))
        while self._offsets[0][0] < arrived_s - self._window_s:
            self._offsets.popleft()
        return offset_s - self._offsets[0][1] + self._round_trip_s / 2.0
