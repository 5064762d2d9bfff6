"""The audit log: one JSON line per lease, stop, fault, recovery, parameter and change of mode.

Events come from the control loop too, so noting one never blocks; `flush` does the writing.
"""

import time
from collections import deque
from pathlib import Path

import msgspec

MAX_PENDING = 10_000


class AuditLog:
    """Appends to `path`; keeps nothing when it is None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pending: deque[dict[str, object]] = deque(maxlen=MAX_PENDING)

    def note(self, event: str, detail: str) -> None:
        """Remember an event for the next `flush`. Never blocks; safe from any thread."""
        if self._path is not None:
            stamp = {"monotonic_s": time.monotonic(), "wall_s": time.time()}
            self._pending.append({**stamp, "event": event, "detail": detail})

    def flush(self) -> None:
        """Append what was noted to the file."""
        if self._path is None or not self._pending:
            return
        lines = []
        while self._pending:
            lines.append(msgspec.json.encode(self._pending.popleft()) + b"\n")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(b"".join(lines))
