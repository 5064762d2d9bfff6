"""The file of one running episode: each step is appended as it comes, and read back after a crash.

A journal is written through to the operating system with each append, so a killed process loses nothing. An entry is::

    length of the record (u32) | CRC-32 of the rest (u32) | arrival (u64) | record of the codec
"""

import errno
import math
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

from serl_core.data.appending import append_whole
from serl_core.data.episode_file import Step
from serl_core.errors import DataError, TransportError
from serl_core.failpoints import failpoint
from serl_core.transport.codec import TRANSITION_MAGIC, decode_transition, encode_transition
from serl_core.types import Transition

_ENTRY = struct.Struct("<IIQ")


class Journal:
    """Of one running episode: the file, and the steps in it.

    Args:
        path: of the file; made with the first step.
        steps: that are in it already.
    """

    def __init__(self, path: Path, steps: list[Step]) -> None:
        self.path = path
        self.steps = steps
        self.grown_s = -math.inf  # when
        self._file: int | None = None

    def add(self, arrival: int, transition: Transition) -> None:
        """Append one step, all or nothing."""
        record = encode_transition(transition)
        checksum = zlib.crc32(record, zlib.crc32(arrival.to_bytes(8, "little")))
        try:
            file = self._opened()
            failpoint("log.journal_write")
            append_whole(file, _ENTRY.pack(len(record), checksum, arrival), record)
            failpoint("log.journal_written")
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}; make room, then start again") from error
        self.steps.append(Step(arrival, transition))

    def sync(self, closes: bool) -> None:
        """Bring the file to the disk itself. Its name takes `sync_folder`.

        Args:
            closes: it has ended. Thousands may wait to be saved, above all after a start: no descriptor for each.
        """
        file = self._opened()
        if os.fstat(file).st_nlink == 0:  # else a file that nobody can find again would be called safe
            raise OSError(errno.ENOENT, f"{self.path.name} was deleted")
        os.fdatasync(file)  # what reading it back takes: not the time of its last change
        if closes:
            self.close()

    def close(self) -> None:
        """Give the descriptor back; the next step opens the file again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """Forget the file. One that a full or read-only disk keeps is passed over when the log is opened again."""
        self.close()
        with suppress(OSError):
            self.path.unlink()

    def _opened(self) -> int:
        if self._file is None:
            new = 0 if self.steps else os.O_CREAT  # a file that was deleted is not made again without its steps
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | new, 0o644)
        return self._file


def read_journal(path: Path) -> list[Step]:
    """Return the steps of a journal, after cutting off a torn last entry: nobody was told it was safe."""
    data = path.read_bytes()
    steps: list[Step] = []
    start = 0
    while start < len(data):
        try:
            step, end = _read_entry(data, start)
        except (TransportError, struct.error) as error:
            if data.find(TRANSITION_MAGIC, start + _ENTRY.size + 1) >= 0:  # more follows: not a torn end
                raise DataError(
                    f"{path} is corrupt at byte {start}: {error}; move it away to lose only its episode"
                ) from None
            os.truncate(path, start)
            break
        steps.append(step)
        start = end
    return steps


def _read_entry(data: bytes, start: int) -> tuple[Step, int]:
    """Return the step at `start` and where the next begins."""
    length, checksum, arrival = _ENTRY.unpack_from(data, start)
    record = data[start + _ENTRY.size : start + _ENTRY.size + length]
    if len(record) != length or zlib.crc32(record, zlib.crc32(arrival.to_bytes(8, "little"))) != checksum:
        raise TransportError("its length or checksum does not match")
    return Step(arrival, decode_transition(record)), start + _ENTRY.size + length
