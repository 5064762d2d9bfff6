"""The audit log: one JSON line per lease, stop, fault, recovery, parameter and change of mode.

Events come from the control loop too, so noting one never blocks; `flush` does the writing. A file that
cannot be written, as on a full disk, stops nobody: the lines wait, and the program's log says so.
"""

import logging
import threading
import time
from collections import deque
from pathlib import Path

import msgspec

from serl_core.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_PENDING = 10_000


class AuditLog:
    """Appends to `path`; keeps nothing when it is None.

    Raises:
        ConfigError: the file cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pending: deque[dict[str, object]] = deque(maxlen=MAX_PENDING)
        self._unwritten = b""  # the rest of a line
        self._is_failing = False
        self._lock = threading.Lock()
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            raise ConfigError(f"audit log {path}: {error.strerror}; give another with --audit-log") from None

    def note(self, event: str, detail: str) -> None:
        """Remember an event for the next `flush`. Never blocks; safe from any thread."""
        if self._path is not None:
            stamp = {"monotonic_s": time.monotonic(), "wall_s": time.time()}
            self._pending.append({**stamp, "event": event, "detail": detail})

    def flush(self) -> None:
        """Append what was noted to the file. What cannot be written waits for the next time."""
        if self._path is None or not (self._pending or self._unwritten):
            return
        with self._lock:
            try:
                self._write(self._path)
                self._is_failing = False
            except OSError as error:
                if not self._is_failing:  # once, not at every request
                    logger.error("audit log %s cannot be written, its lines wait: %s", self._path, error.strerror)
                self._is_failing = True

    def _write(self, path: Path) -> None:
        with path.open("ab", buffering=0) as file:
            while self._unwritten or self._pending:
                if not self._unwritten:
                    self._unwritten = msgspec.json.encode(self._pending.popleft()) + b"\n"
                written = file.write(self._unwritten)
                self._unwritten = self._unwritten[written:]
