"""Writes checkpoints beside the training: an update does not wait for a disk."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from learners.checkpoints import Checkpoints
from learners.trainer import Snapshot
from serl_core.errors import DataError
from serl_core.failpoints import failpoint


class Written(NamedTuple):
    """What became of a snapshot."""

    trained_env_steps: int
    seconds: float
    bytes: int
    error: DataError | None  # why it is not on the disk


class CheckpointWriter:
    """One snapshot at a time; of those that wait only the newest is written.

    Without its thread `put` writes before it returns.
    """

    def __init__(self, checkpoints: Checkpoints, clock: Callable[[], float] = time.monotonic) -> None:
        self._checkpoints = checkpoints
        self._clock = clock
        self._changed = threading.Condition()
        self._next: Snapshot | None = None
        self._is_busy = self._is_closing = False
        self._thread: threading.Thread | None = None
        self._results: list[Written] = []
        self._ok = self._failed = self._bytes = 0
        self._seconds = 0.0

    def put(self, snapshot: Snapshot) -> None:
        """Have a snapshot written; in the background one that has not been begun makes room for it."""
        if self._thread is None:
            self._write(snapshot)
            return
        with self._changed:
            self._next = snapshot
            self._changed.notify_all()

    def results(self) -> list[Written]:
        """Return what has ended since the last call."""
        with self._changed:
            ended, self._results = self._results, []
            return ended

    def counters(self) -> dict[str, float]:
        """Return how many were written and failed since the start, and the size and duration of the last one."""
        return {
            "ckpt_ok": self._ok,
            "ckpt_failed": self._failed,
            "ckpt_bytes": self._bytes,
            "ckpt_seconds": round(self._seconds, 4),
        }

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Write in a thread of its own; on leaving, all is written."""
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._is_closing)
                snapshot, self._next = self._next, None
            if snapshot is None:
                return
            failpoint("learner.checkpoint_begun")
            self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        begun_s = self._clock()
        size, error = 0, None
        try:
            size = _size(self._checkpoints.save(snapshot.arrays, snapshot.facts))
            self._ok += 1
        except DataError as refused:
            error = refused
            self._failed += 1
        self._seconds, self._bytes = self._clock() - begun_s, size or self._bytes
        with self._changed:
            self._results.append(Written(snapshot.facts["trained_env_steps"], self._seconds, size, error))


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except OSError:  # somebody has moved it away since
        return 0
