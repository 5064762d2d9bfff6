"""Follows a file of JSON lines as it grows: in bounded pieces, from its start again when it was made anew."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec

Record = dict[str, Any]

MAX_BLOCK_BYTES = 2 * 1024 * 1024
MAX_LINE_BYTES = 256 * 1024


class Tail:
    """Like `MetricsTail`, for a reader that outlives the file and has others to serve meanwhile.

    `generation` counts up when the file was replaced: what was read before is of another run.
    """

    def __init__(self, path: Path) -> None:
        self.generation = 0
        self._path = path
        self._offset = 0
        self._inode: int | None = None

    def read(self) -> list[Record]:
        """Return the records of the next block; none while there is nothing new, or no file.

        Lines torn by a crash are passed over. Call again until nothing comes.
        """
        try:
            with self._path.open("rb") as file:
                self._notice_a_new_file(os.fstat(file.fileno()))
                file.seek(self._offset)
                block = file.read(MAX_BLOCK_BYTES)
        except OSError:
            return []
        whole = block[: block.rfind(b"\n") + 1]
        if not whole and len(block) > MAX_LINE_BYTES:  # no record of ours: a torn line that never ended
            whole = block
        self._offset += len(whole)
        return [record for line in whole.splitlines() if (record := _record(line)) is not None]

    def _notice_a_new_file(self, status: os.stat_result) -> None:
        if self._inode is not None and (status.st_ino != self._inode or status.st_size < self._offset):
            self.generation += 1
            self._offset = 0
        self._inode = status.st_ino


def _record(line: bytes) -> Record | None:
    try:
        record = msgspec.json.decode(line)
    except msgspec.DecodeError:
        try:
            record = json.loads(line)  # Python writes NaN and Infinity, which are no JSON
        except ValueError:
            return None
    return record if isinstance(record, dict) else None
