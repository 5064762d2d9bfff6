"""What a program has to tell about its run: one JSON object a line, in a file that grows and survives crashes."""

import json
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from serl_core.data.appending import append_whole
from serl_core.failpoints import failpoint

logger = logging.getLogger(__name__)

MAX_WAITING = 1000  # records

Record = dict[str, Any]


class MetricsWriter:
    """Appends records to a file, on a new line after a torn one; each is in the file when the call returns.

    What a full disk refuses waits for room, the newest `MAX_WAITING`: what is told about a program must not end it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        is_torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._waiting: deque[bytes] = deque([b"\n"] if is_torn else [], MAX_WAITING)

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, kind: str, record: Record) -> None:
        """Append one record, with the wall time."""
        line = json.dumps({"kind": kind, "time": round(time.time(), 3), **record}) + "\n"
        was_refused = len(self._waiting) > 1
        self._waiting.append(line.encode())
        failpoint("metrics.write")
        try:
            while self._waiting:
                append_whole(self._file, self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            if not was_refused:
                logger.error("%s cannot be written: %s; what it would tell waits for room", self._path, error.strerror)
        failpoint("metrics.written")


class MetricsTail:
    """Reads the records appended to a file since the last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Record]:
        """Return the new whole lines, without those torn by a crash; none while the file does not exist."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            block = file.read()
        whole = block[: block.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(_records(whole.decode(errors="replace").splitlines()))


def read_metrics(path: Path) -> list[Record]:
    """Return the whole lines of a metrics file; a line torn by a crash is passed over. None if there is no file."""
    return MetricsTail(path).read()


def _records(lines: list[str]) -> Iterator[Record]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
