"""Whether a stop is latched, kept for the next server, should this one die: only a request clears a stop."""

import mmap
from collections.abc import Callable


class StopMemory:
    """A byte that a server shares with the supervisor that has made its process."""

    def __init__(self) -> None:
        """Store; child processes made from now on share it."""
        self._byte = mmap.mmap(-1, 1)

    @property
    def is_stopped(self) -> bool:
        """Whether the last server that noted it was stopped."""
        return self._byte[0] != 0

    def note(self, is_stopped: Callable[[], bool]) -> None:
        """Keep what is so now; a stop that comes between the look and the note is not lost."""
        while (now := is_stopped()) != self.is_stopped:
            self._byte[0] = now
