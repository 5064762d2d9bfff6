"""The software stop, latched: no lock, so that it can be set from any thread and from a signal handler."""

from typing import NamedTuple


class Stop(NamedTuple):
    """One request to stop; told from others by identity."""

    cause: str


class StopLatch:
    """Set by one assignment; what is cleared is the stop that was seen, and none that came meanwhile."""

    def __init__(self) -> None:
        self._newest: Stop | None = None
        self._cleared: Stop | None = None  # the newest that was: the latch is set while they differ

    @property
    def is_set(self) -> bool:
        """The arm is stopped."""
        return self._newest is not self._cleared

    @property
    def present(self) -> Stop | None:
        """The stop that is latched now, or None."""
        newest = self._newest
        return None if newest is self._cleared else newest

    def set(self, cause: str) -> None:
        """Latch a stop."""
        self._newest = Stop(cause)

    def clear(self, seen: Stop) -> None:
        """Clear the stop that was seen as `present`."""
        self._cleared = seen
