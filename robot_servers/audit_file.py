"""The files of an audit log: lines are appended in a chain, and a full file makes room for the next."""

import os
from pathlib import Path

from robot_servers.audit_chain import BEGINNING, MAX_LINE_BYTES, chained, digest, rotated_file, rotated_files

ROTATE_BYTES = 16 * 1024 * 1024


class AuditFile:
    """Appends to `path`; its older lines are in the files beside it, and none is ever deleted.

    Args:
        path: of the newest lines. One program at a time may write it.
        rotate_bytes: size from which a file is full.
    """

    def __init__(self, path: Path, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.path = path
        self._rotate_bytes = rotate_bytes
        self._previous: str | None = None  # the hash of the newest line; None before the file was read
        self._unwritten = b""  # the rest of a line

    @property
    def has_rest(self) -> bool:
        """A line was written in part."""
        return bool(self._unwritten)

    def open(self) -> None:
        """Make the file, readable by its owner alone, if it is not there. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(self._opened())

    def append(self, record: dict[str, object]) -> None:
        """Take a record; `write` writes it. Raises OSError: the file cannot be read, and the record was not taken."""
        if self._previous is None:
            self._previous = self._newest()
        line, self._previous = chained(record, self._previous)
        self._unwritten += line + b"\n"

    def write(self) -> None:
        """Write what was taken. Raises OSError: what cannot be written stays for the next time."""
        if self.path.exists() and self.path.stat().st_size >= self._rotate_bytes and not self._is_amid_line():
            self.path.rename(rotated_file(self.path, len(rotated_files(self.path)) + 1))
        with os.fdopen(self._opened(), "ab", buffering=0) as file:
            while self._unwritten:
                written = file.write(self._unwritten)
                self._unwritten = self._unwritten[written:]

    def _opened(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _is_amid_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def _newest(self) -> str:
        """Return the hash of the newest line that an earlier run left; cut off one that it did not finish."""
        for path in (self.path, *reversed(rotated_files(self.path))):
            if not path.exists() or not path.stat().st_size:
                continue
            with path.open("r+b") as file:
                end = file.seek(0, os.SEEK_END)
                start = file.seek(max(0, end - 2 * MAX_LINE_BYTES))
                lines = file.read().split(b"\n")
                if lines[-1]:  # the power failed amid a line: it was never told to anybody
                    file.truncate(end - len(lines[-1]))
                if len(lines) > 1:
                    return digest(lines[-2])
                if start:
                    raise OSError(f"{path} has no line end in its last {2 * MAX_LINE_BYTES} bytes")
        return BEGINNING
