"""The learner's durable truth: every transition it has taken in, append-only, in the order of arrival.

::

    <directory>/log.json                                 version and task
    <directory>/episodes/<session>-<episode>.safetensors finished episodes
    <directory>/journals/<session>-<sequence>.journal    the running episode of a session, from its first step on

A killed process loses nothing. The journals are synced to the disk itself each second, at an episode's end, or when
asked to; what is synced survives a power cut and may be acknowledged. `save_ended` makes files of the journals of
ended episodes, when there is time for it.
"""

import fcntl
import heapq
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from serl_core.clock import Clock
from serl_core.data.appending import sync_folder
from serl_core.data.episode_file import (
    SUFFIX,
    EpisodeHeader,
    Step,
    load_episode,
    load_episodes,
    load_header,
    load_steps,
    save_episode,
    write_atomically,
)
from serl_core.data.journal import Journal, read_journal
from serl_core.data.relabels import Episode
from serl_core.digests import not_of_here
from serl_core.errors import DataError
from serl_core.failpoints import failpoint
from serl_core.types import EndReason, Transition
from serl_core.versions import other_version

__all__ = ["EpisodeLog", "load_episode", "load_episodes", "save_episode"]

VERSION = 2
ONE_JOURNAL_EACH = 1  # the version before: a session's journals had the same name; they are read, and go on
SYNC_PERIOD_S = 1.0
SYNCED_AT_ONCE = 8  # journals
QUIET_S = 10.0  # then a journal gives its descriptor back


class _LogInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    task_digest: str


class _Saved(NamedTuple):
    """What the log keeps in mind of a session's episode that is in a file: little, for there are 100,000 a day."""

    first_arrival: int
    last_arrival: int
    steps: int
    last_sequence: int
    number: int
    is_ended: bool  # else the rest of it never came


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
        self._syncing = ThreadPoolExecutor(SYNCED_AT_ONCE, thread_name_prefix="sync")
        self._lock = self._take_lock()
        self._position = 0
        self._next_arrival = 0
        self._last_sequences: dict[str, int] = {}
        self._synced_sequences: dict[str, int] = {}
        self._saved: dict[str, list[_Saved]] = defaultdict(list)  # by session, in order
        self._journals: dict[str, Journal] = {}  # of running episodes, by session
        self._ended: list[Journal] = []  # since the last sync
        self._to_save: deque[Journal] = deque()  # of ended episodes, on the disk, in order
        self._unsynced: set[Journal] = set()  # those that have grown since the last sync
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

    @property
    def unsaved(self) -> int:
        """How many ended episodes wait for `save_ended`, in their journals and in memory."""
        return len(self._to_save)

    def last_sequences(self) -> dict[str, int]:
        """Return the last logged sequence of each session; it survives the end of this process."""
        return dict(self._last_sequences)

    def synced_sequences(self) -> dict[str, int]:
        """Return the last sequence of each session that survives a power cut: what may be acknowledged."""
        return dict(self._synced_sequences)

    def append(self, transitions: Sequence[Transition]) -> None:
        """Add transitions, in order per session; one that is there already is skipped.

        On return they survive the end of this process. Syncs when that is due, also without transitions, and after
        the end of an episode.

        Raises:
            DataError: the disk is full or gone. What was not written is not in `last_sequences`.
        """
        for transition in transitions:
            self._append(transition)
        if self._ended or self._clock() - self._synced_s >= SYNC_PERIOD_S:
            self.sync()

    def sync(self) -> None:
        """Bring everything to the disk itself: on return it survives a power cut.

        Raises:
            DataError: the disk is gone.
        """
        self._synced_s = self._clock()
        if self._synced_sequences == self._last_sequences:
            return
        grown, ended = set(self._unsynced), set(self._ended)
        try:
            journals = sorted(grown, key=attrgetter("path"))
            waits: list[Callable[[], None]] = [partial(journal.sync, journal in ended) for journal in journals]
            waits[1:] = [self._syncing.submit(wait).result for wait in waits[1:]]  # at once: one wait for the disk
            for wait in waits:
                wait()
                failpoint("log.journal_synced")
            if self._has_new_names:  # not each time: it takes longer than all of the journals
                sync_folder(self._journals_folder)
                self._has_new_names = False
        except OSError as error:
            raise DataError(f"cannot sync {self._journals_folder}: {error.strerror}; look at its disk") from error
        failpoint("log.folder_synced")
        self._unsynced.clear()
        self._synced_sequences = dict(self._last_sequences)
        quiet = [each for each in self._journals.values() if self._synced_s - each.grown_s >= QUIET_S]
        for journal in (*self._ended, *quiet):  # of dead actors they would stay open
            journal.close()
        self._to_save.extend(self._ended)
        self._ended.clear()

    def save_ended(self) -> None:
        """Make files of the episodes that have ended. Another thread than the one that appends may do it.

        Raises:
            DataError: the disk refused one. It stays in its journal, with those after it, for the next call.
        """
        while self._to_save:
            self._save(self._to_save[0])
            self._to_save.popleft().remove()
            failpoint("log.journal_removed")

    def transitions(self, since: int = 0) -> Iterator[Transition]:
        """Return all transitions in the order in which they arrived, unless episodes are saved meanwhile.

        Args:
            since: files of episodes whose last step arrived before are left out, and not read.

        Raises:
            DataError: an episode file is corrupt.
        """
        streams = [self._stream(session, since) for session in self._last_sequences]
        return (step.transition for step in heapq.merge(*streams, key=attrgetter("arrival")))

    def needed_since(self, steps: int, inserted: Mapping[str, int], told: Container[Episode]) -> int:
        """Return what `transitions` must be given so that it leaves nothing out that is needed.

        Args:
            steps: how many of the newest of those in `inserted` are needed.
            inserted: the last sequence of each session; all that came later is needed.
            told: ended episodes that are not needed for themselves; those that are not in here are.
        """
        newest_first = sorted(
            ((saved, session) for session in self._saved for saved in self._saved[session]), reverse=True
        )
        since = self._next_arrival
        for saved, session in newest_first:
            is_inserted = saved.last_sequence <= inserted.get(session, -1)
            if is_inserted and steps > 0:
                steps -= saved.steps
                since = saved.first_arrival
            if not is_inserted or (saved.is_ended and (session, saved.number) not in told):
                since = min(since, saved.first_arrival)
        return since if steps <= 0 else 0

    def close(self) -> None:
        """Sync, save and give the lock back. Safe to call twice. Running episodes stay in their journals."""
        if self._lock < 0:
            return
        try:
            self.sync()
            with suppress(DataError):  # the next learner has the journals
                self.save_ended()
        finally:
            for journal in (*self._journals.values(), *self._ended, *self._to_save):
                journal.close()
            self._syncing.shutdown()
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
            self._ended.append(self._journals.pop(session))  # its last step never came
            journal = None
        if journal is None:
            journal = Journal(self._journals_folder / f"{session}-{provenance.sequence:09d}.journal", [])
            self._has_new_names = True
        journal.add(self._next_arrival, transition)
        journal.grown_s = self._clock()
        self._journals[session] = journal
        self._unsynced.add(journal)
        self._last_sequences[session] = provenance.sequence
        self._next_arrival += 1
        self._position += 1
        if transition.end != EndReason.RUNNING:
            self._ended.append(self._journals.pop(session))

    def _save(self, journal: Journal) -> None:
        """Make an episode file of a journal."""
        if not self._episodes.is_dir():  # else it would be made anew, while the rest of the log is somewhere else
            raise DataError(f"the folder {self._episodes} is gone; put it back")
        first = journal.steps[0].provenance
        header = save_episode(
            self._path(first.session, first.episode),
            [step.transition for step in journal.steps],
            task_digest=self._task_digest,
            arrivals=[step.arrival for step in journal.steps],
            makes_folders=False,  # the folder may go at any time
        )
        failpoint("log.episode_saved")
        self._remember(header)

    def _path(self, session: str, episode: int) -> Path:
        return self._episodes / f"{session}-{episode:06d}{SUFFIX}"

    def _remember(self, header: EpisodeHeader) -> None:
        self._saved[header.session].append(
            _Saved(
                first_arrival=header.first_arrival,
                last_arrival=header.last_arrival,
                steps=header.steps,
                last_sequence=header.last_sequence,
                number=header.episode,
                is_ended=header.end != EndReason.RUNNING.name,
            )
        )

    def _stream(self, session: str, since: int) -> Iterator[Step]:
        for saved in self._saved[session]:
            if saved.last_arrival >= since:
                yield from load_steps(self._path(session, saved.number))
        for journal in (*self._to_save, *self._ended, *self._journals.values()):
            if journal.steps[0].provenance.session == session:
                yield from journal.steps

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
        if info.version not in (ONE_JOURNAL_EACH, VERSION):
            raise DataError(other_version(path, info.version, VERSION))
        if info.task_digest != self._task_digest:
            remedy = "choose another folder"
            raise DataError(not_of_here(str(self._directory), info.task_digest, self._task_digest, remedy))
        if info.version != VERSION:
            write_atomically(path, msgspec.json.encode(_LogInfo(VERSION, self._task_digest)))

    def _find_episodes(self) -> None:
        for leftover in self._episodes.glob(".*.partial"):
            leftover.unlink()
        for path in self._episodes.glob(f"*{SUFFIX}"):
            header = load_header(path)
            if path != (rightly := self._path(header.session, header.episode)):  # a copy would count twice
                raise DataError(f"{path} holds what belongs in {rightly.name}: rename it, or move a copy away")
            self._remember(header)
            last = self._last_sequences.get(header.session, -1)
            self._last_sequences[header.session] = max(last, header.last_sequence)
            self._next_arrival = max(self._next_arrival, header.last_arrival + 1)
            self._position += header.steps
        for episodes in self._saved.values():
            episodes.sort()

    def _find_journals(self) -> None:
        found = [(path, read_journal(path)) for path in self._journals_folder.glob("*.journal")]
        for path, steps in sorted(found, key=lambda item: [step.arrival for step in item[1][:1]]):
            if not steps or steps[-1].provenance.sequence <= self._last_sequences.get(steps[0].provenance.session, -1):
                path.unlink()  # nothing of it was told to be safe, or it was killed after its file had been made
                continue
            journal, session = Journal(path, steps), steps[0].provenance.session
            if session in self._journals:
                self._ended.append(self._journals.pop(session))
            if steps[-1].transition.end == EndReason.RUNNING:
                self._journals[session] = journal
            else:
                self._ended.append(journal)
            self._unsynced.add(journal)
            self._last_sequences[session] = steps[-1].provenance.sequence
            self._next_arrival = max(self._next_arrival, steps[-1].arrival + 1)
            self._position += len(steps)
