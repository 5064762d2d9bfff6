"""What a program has to tell about its run: one JSON object a line, in a file that grows and survives crashes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

Record = dict[str, Any]


class MetricsWriter:
    """Appends records to a file, on a new line after a torn one; each is in the file when the call returns."""

    def __init__(self, path: Path) -> None:
        is_torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        self._file = path.open("a", encoding="utf-8")
        if is_torn:
            self._file.write("\n")

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, kind: str, record: Record) -> None:
        """Append one record, with the wall time."""
        self._file.write(json.dumps({"kind": kind, "time": round(time.time(), 3), **record}) + "\n")
        self._file.flush()


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
        return list(_records(whole.decode().splitlines()))


def read_metrics(path: Path) -> list[Record]:
    """Return the whole lines of a metrics file; a line torn by a crash is passed over. None if there is no file."""
    return MetricsTail(path).read()


def _records(lines: list[str]) -> Iterator[Record]:
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
