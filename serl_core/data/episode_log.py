"""The learner's durable truth: every transition it has taken in, append-only, in the order of arrival.

::

    <directory>/log.json                                 version and task
    <directory>/episodes/<session>-<episode>.safetensors finished episodes
    <directory>/journals/<session>.journal               the running episode of a session

A journal is written through to the operating system with each append, so a killed process loses
nothing. It is synced to the disk itself each second, or when asked to; what is synced survives a power
cut and may be acknowledged. A journal entry is::

    length of the record (u32) | CRC-32 of the rest (u32) | arrival (u64) | record of the codec
"""

import errno
import fcntl
import heapq
import os
import struct
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

import msgspec

from serl_core.clock import Clock
from serl_core.data.appending import append_whole, sync_folder
from serl_core.data.episode_file import (
    SUFFIX,
    Step,
    load_episode,
    load_episodes,
    load_header,
    load_steps,
    save_episode,
    write_atomically,
)
from serl_core.digests import not_of_here
from serl_core.errors import DataError, TransportError
from serl_core.failpoints import failpoint
from serl_core.transport.codec import TRANSITION_MAGIC, decode_transition, encode_transition
from serl_core.types import EndReason, Transition
from serl_core.versions import other_version

__all__ = ["EpisodeLog", "load_episode", "load_episodes", "save_episode"]

VERSION = 1
SYNC_PERIOD_S = 1.0
_ENTRY = struct.Struct("<IIQ")


class _LogInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    task_digest: str


class _Journal:
    """The file of one running episode, and its steps."""

    def __init__(self, path: Path, steps: list[Step]) -> None:
        self.path = path
        self.steps = steps
        self._file: int | None = None

    def add(self, arrival: int, transition: Transition) -> None:
        """Append one step, all or nothing."""
        record = encode_transition(transition)
        checksum = zlib.crc32(record, zlib.crc32(arrival.to_bytes(8, "little")))
        entry = _ENTRY.pack(len(record), checksum, arrival) + record
        try:
            file = self._opened()
            failpoint("log.journal_write")
            append_whole(file, entry)
            failpoint("log.journal_written")
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}; make room, then start again") from error
        self.steps.append(Step(arrival, transition))

    def sync(self) -> None:
        """Bring the file to the disk itself. Its name takes `sync_folder`."""
        file = self._opened()
        if os.fstat(file).st_nlink == 0:  # else a file that nobody can find again would be called safe
            raise OSError(errno.ENOENT, f"{self.path.name} was deleted")
        os.fdatasync(file)  # what reading it back takes: not the time of its last change

    def close(self) -> None:
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
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self._file


class EpisodeLog:
    """One learner's log. Opening it reads what is there, drops a torn last entry and takes a lock.

    Raises:
        DataError: another learner has the log open, it belongs to another task, a file is corrupt, or
            the folder cannot be written.
    """

    def __init__(self, directory: Path, task_digest: str, *, clock: Clock = time.monotonic) -> None:
        self._directory = Path(directory)
        self._episodes = self._directory / "episodes"
        self._journals_folder = self._directory / "journals"
        self._task_digest = task_digest
        self._clock = clock
        self._synced_s = clock()
        self._lock = self._take_lock()
        self._position = 0
        self._next_arrival = 0
        self._last_sequences: dict[str, int] = {}
        self._synced_sequences: dict[str, int] = {}
        self._finished: dict[str, list[tuple[int, str]]] = defaultdict(list)  # (first arrival, file's name) by session
        self._journals: dict[str, _Journal] = {}
        self._unsynced: set[str] = set()  # sessions whose journals have grown since the last sync
        self._has_new_names = True  # in the folder of journals, as far as the disk knows
        try:
            self._check_task()
            self._find_episodes()
            self._find_journals()
            self.sync()  # a killed learner may have left what no disk has seen yet
        except DataError:
            os.close(self._lock)
            raise

    @property
    def position(self) -> int:
        """How many transitions the log holds."""
        return self._position

    def last_sequences(self) -> dict[str, int]:
        """Return the last logged sequence of each session; it survives the end of this process."""
        return dict(self._last_sequences)

    def synced_sequences(self) -> dict[str, int]:
        """Return the last sequence of each session that survives a power cut: what may be acknowledged."""
        return dict(self._synced_sequences)

    def append(self, transitions: Sequence[Transition]) -> None:
        """Add transitions, in order per session; one that is there already is skipped.

        On return they survive the end of this process. Syncs when that is due, also without transitions.

        Raises:
            DataError: the disk is full or gone. What was not written is not in `last_sequences`.
        """
        for transition in transitions:
            self._append(transition)
        if self._clock() - self._synced_s >= SYNC_PERIOD_S:
            self.sync()

    def sync(self) -> None:
        """Bring everything to the disk itself: on return it survives a power cut.

        Raises:
            DataError: the disk is gone.
        """
        self._synced_s = self._clock()
        if self._synced_sequences == self._last_sequences:
            return
        try:
            for session in sorted(self._unsynced):
                self._journals[session].sync()
                failpoint("log.journal_synced")
            if self._has_new_names:  # not each time: it takes longer than all of the journals
                sync_folder(self._journals_folder)
                self._has_new_names = False
        except OSError as error:
            raise DataError(f"cannot sync {self._journals_folder}: {error.strerror}; look at its disk") from error
        failpoint("log.folder_synced")
        self._unsynced.clear()
        self._synced_sequences = dict(self._last_sequences)

    def transitions(self) -> Iterator[Transition]:
        """Return all transitions in the order in which they arrived.

        Raises:
            DataError: an episode file is corrupt.
        """
        streams = [self._stream(session) for session in self._last_sequences]
        return (step.transition for step in heapq.merge(*streams, key=attrgetter("arrival")))

    def close(self) -> None:
        """Sync and give the lock back. Safe to call twice. Running episodes stay in their journals."""
        if self._lock < 0:
            return
        try:
            self.sync()
        finally:
            for journal in self._journals.values():
                journal.close()
            os.close(self._lock)
            self._lock = -1

    def _append(self, transition: Transition) -> None:
        provenance = transition.provenance
        if provenance is None:
            raise DataError("a transition without provenance cannot be logged")
        session = provenance.session
        if provenance.sequence <= self._last_sequences.get(session, -1):
            return
        journal = self._journals.get(session)
        if journal is not None and journal.steps[-1].provenance.episode != provenance.episode:
            self._finish(session)  # its last step never came
            journal = None
        if journal is None:
            journal = _Journal(self._journals_folder / f"{session}.journal", [])
            self._has_new_names = True
        journal.add(self._next_arrival, transition)
        self._journals[session] = journal
        self._unsynced.add(session)
        self._last_sequences[session] = provenance.sequence
        self._next_arrival += 1
        self._position += 1
        if transition.end != EndReason.RUNNING:
            self._finish(session)

    def _finish(self, session: str) -> None:
        """Turn the journal of a session into an episode file."""
        journal = self._journals[session]
        if not self._episodes.is_dir():  # else it would be made anew, while the rest of the log is somewhere else
            raise DataError(f"the folder {self._episodes} is gone; put it back")
        path = self._episodes / f"{session}-{journal.steps[0].provenance.episode:06d}{SUFFIX}"
        save_episode(
            path,
            [step.transition for step in journal.steps],
            task_digest=self._task_digest,
            arrivals=[step.arrival for step in journal.steps],
        )
        failpoint("log.episode_saved")
        self._finished[session].append((journal.steps[0].arrival, path.name))
        self._synced_sequences[session] = journal.steps[-1].provenance.sequence
        self._unsynced.discard(session)
        del self._journals[session]
        journal.remove()
        failpoint("log.journal_removed")

    def _stream(self, session: str) -> Iterator[Step]:
        for _, name in self._finished[session]:
            yield from load_steps(self._episodes / name)
        if session in self._journals:
            yield from self._journals[session].steps

    def _take_lock(self) -> int:
        try:
            self._episodes.mkdir(parents=True, exist_ok=True)
            self._journals_folder.mkdir(exist_ok=True)
            lock = os.open(self._directory / "log.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DataError(f"cannot write to {self._directory}: {error.strerror}; choose another folder") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise DataError(f"another learner writes to {self._directory}: stop it or choose another folder") from None
        return lock

    def _check_task(self) -> None:
        path = self._directory / "log.json"
        if not path.exists():
            write_atomically(path, msgspec.json.encode(_LogInfo(VERSION, self._task_digest)))
            return
        try:
            info = msgspec.json.decode(path.read_bytes(), type=_LogInfo)
        except msgspec.MsgspecError as error:
            raise DataError(f"{path} is corrupt: {error}; move it away to have it made anew") from None
        if info.version != VERSION:
            raise DataError(other_version(path, info.version, VERSION))
        if info.task_digest != self._task_digest:
            remedy = "choose another folder"
            raise DataError(not_of_here(str(self._directory), info.task_digest, self._task_digest, remedy))

    def _find_episodes(self) -> None:
        for leftover in self._episodes.glob(".*.partial"):
            leftover.unlink()
        for path in self._episodes.glob(f"*{SUFFIX}"):
            header = load_header(path)
            self._finished[header.session].append((header.first_arrival, path.name))
            last = self._last_sequences.get(header.session, -1)
            self._last_sequences[header.session] = max(last, header.last_sequence)
            self._next_arrival = max(self._next_arrival, header.last_arrival + 1)
            self._position += header.steps
        for files in self._finished.values():
            files.sort()

    def _find_journals(self) -> None:
        for path in sorted(self._journals_folder.glob("*.journal")):
            steps = _read_journal(path)
            finished = self._last_sequences.get(path.stem, -1)
            steps = [step for step in steps if step.provenance.sequence > finished]
            if not steps:
                path.unlink()
                continue
            self._journals[path.stem] = _Journal(path, steps)
            self._unsynced.add(path.stem)
            self._last_sequences[path.stem] = steps[-1].provenance.sequence
            self._next_arrival = max(self._next_arrival, steps[-1].arrival + 1)
            self._position += len(steps)


def _read_journal(path: Path) -> list[Step]:
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
