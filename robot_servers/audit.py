"""The audit log: one JSON line per lease, stop, fault, recovery, parameter, refused token and change of mode.

Events come from the control loop too, so noting one never blocks: a thread of the log's own does the writing. A file
that cannot be written, as on a full disk, stops nobody: the lines wait, and the program's log says so.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from robot_servers.audit_file import ROTATE_BYTES, AuditFile
from serl_core.errors import ConfigError

logger = logging.getLogger(__name__)

MAX_PENDING = 10_000
LINES_AT_ONCE = 100
MAX_TEXT = 2000  # letters of a detail or value: a client chooses its own name
WRITE_PERIOD_S = 0.2  # a poll: to wake the thread would take a lock, and a signal handler may note a stop


class Requester(NamedTuple):
    """On whose behalf something happens."""

    client: str  # its address
    role: str


REQUESTER: ContextVar[Requester | None] = ContextVar("REQUESTER", default=None)
"""Set while a request is served; None in the control loop."""


class AuditLog:
    """Appends to `path`, in a chain (see `audit_chain`); keeps nothing when it is None.

    Args:
        path: of the newest lines.
        lease_epoch: of the present lease, noted with every line. Called from any thread: must not block.
        rotate_bytes: size from which a file is full.

    Raises:
        ConfigError: the file cannot be opened.
    """

    def __init__(
        self, path: Path | None, lease_epoch: Callable[[], int] = lambda: 0, rotate_bytes: int = ROTATE_BYTES
    ) -> None:
        self._file = None if path is None else AuditFile(path, rotate_bytes)
        self._lease_epoch = lease_epoch
        self._pending: deque[dict[str, object]] = deque(maxlen=MAX_PENDING)
        self._is_failing = False
        self._lock = threading.Lock()
        self._is_closing = threading.Event()
        self._writer: threading.Thread | None = None
        if self._file is None:
            return
        try:
            self._file.open()
        except OSError as error:
            raise ConfigError(f"audit log {path}: {error.strerror}; give another with --audit-log") from None

    def note(self, event: str, detail: str, **values: str) -> None:
        """Remember an event for the log. Never blocks; safe from any thread.

        Args:
            event: what happened, in a word.
            detail: to what, or why.
            values: what else is to stand there, such as the old and the new value.
        """
        if self._file is None:
            return
        requester = REQUESTER.get()
        who = {} if requester is None else requester._asdict()
        texts = {name: text[:MAX_TEXT] for name, text in {"event": event, "detail": detail, **who, **values}.items()}
        epoch = self._lease_epoch()
        self._pending.append({"monotonic_s": time.monotonic(), "wall_s": time.time(), "lease_epoch": epoch, **texts})

    def start(self) -> None:
        """Begin to write what is noted."""
        if self._file is not None and self._writer is None:
            self._is_closing.clear()
            self._writer = threading.Thread(target=self._write_on, name="audit-log", daemon=True)
            self._writer.start()

    def close(self) -> None:
        """Write what is left, and end the thread. Safe to call twice, and without `start`."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._is_closing.set()
            writer.join()
        self.flush()

    def flush(self) -> None:
        """Append what was noted to the file. What cannot be written waits for the next time."""
        if self._file is None:
            return
        with self._lock:
            try:
                while self._pending or self._file.has_rest:
                    self._take(self._file)
                    self._file.write()
                self._is_failing = False
            except OSError as error:
                if not self._is_failing:  # once, not at every try
                    logger.error("audit log %s cannot be written, its lines wait: %s", self._file.path, error.strerror)
                self._is_failing = True

    def _take(self, file: AuditFile) -> None:
        """Chain a part of what was noted; a large part at once would need memory while the disk is full."""
        for _ in range(min(len(self._pending), LINES_AT_ONCE)):
            record = self._pending.popleft()
            try:
                file.append(record)
            except OSError:
                self._pending.appendleft(record)
                raise

    def _write_on(self) -> None:
        while not self._is_closing.wait(WRITE_PERIOD_S):
            self.flush()
