"""What the service has counted since its start, for /metrics."""

import threading
from collections import Counter
from typing import NamedTuple


class Counts(NamedTuple):
    """One look at the counters."""

    accepted: int  # commands
    rejected: dict[str, int]  # by the kind of their refusal
    watchdog_fired: int
    automatic_recoveries: int
    dropped_readings: int  # with a number that is not finite
    lease_epoch: int  # 0 while nobody holds it
    latch_cause: str | None
    state_age_s: float  # since the newest control tick; 0 in lockstep


class CommandCounter:
    """Counts from any thread."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.accepted = 0
        self._rejected: Counter[str] = Counter()
        self._lock = threading.Lock()

    def accept(self) -> None:
        """Count a command that was carried out."""
        with self._lock:
            self.accepted += 1

    def reject(self, kind: str) -> None:
        """Count a command that was refused."""
        with self._lock:
            self._rejected[kind] += 1

    def rejected(self) -> dict[str, int]:
        """Return how many were refused, by kind (a copy)."""
        with self._lock:
            return dict(self._rejected)
