"""Brings what the actors send to the log's disk, and tells them so; then it is the training's.

In a learner process this runs in a thread of its own, so that an update that takes seconds, or a
checkpoint, keeps no actor waiting; and what has ended is saved in another, so that an episode's file does not
either. In a synchronous run `take` does the same in the caller's thread.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from serl_core.data.episode_log import EpisodeLog
from serl_core.errors import DataError
from serl_core.failpoints import failpoint
from serl_core.scheduling import before_others
from serl_core.transport.interface import LearnerLink
from serl_core.types import Transition

logger = logging.getLogger(__name__)

RECEIVE_S = 0.1  # how long the thread waits for transitions before it looks whether it shall end
GATHER_S = 0.002  # then: what comes at about the same time shares one write and one wait for the disk
RETRY_S = 1.0  # after a write that the disk refused
SAVE_PERIOD_S = 0.1  # between looks for episodes that have ended
MAX_UNSAVED = 64  # such episodes: they are held in memory, and what comes later stays in the actors' spools


class Intake:
    """Logs and acknowledges transitions, in order, before anybody learns from them.

    Args:
        stored: `Trainer.stored`, which refuses what does not fit.
        retry_s: how long to wait after a write that the disk refused.
        goes_before_others: the thread that acknowledges goes before every ordinary process.
    """

    def __init__(
        self,
        link: LearnerLink,
        log: EpisodeLog,
        stored: Callable[[Sequence[Transition]], list[Transition]],
        *,
        retry_s: float = RETRY_S,
        goes_before_others: bool = False,
    ) -> None:
        self._link = link
        self._log = log
        self._stored = stored
        self._retry_s = retry_s
        self._goes_before_others = goes_before_others
        self._acknowledged: dict[str, int] = {}
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()
        self._changed = threading.Condition()
        self._waiting: list[Transition] = []
        self._refusal: DataError | None = None
        self._refused_writes = 0

    @property
    def waiting(self) -> int:
        """How many transitions are logged and not yet taken."""
        return len(self._waiting)

    @property
    def refused_writes(self) -> int:
        """How often the disk has refused the log; what it refused waits, and is written once it does not."""
        return self._refused_writes

    def take(self, timeout_s: float) -> list[Transition]:
        """Return new transitions as the buffer keeps them; wait up to `timeout_s` when there are none.

        Raises:
            DataError: one does not fit the task; neither it nor what came with it is in the log. Without a thread
                also: the disk refused the log.
        """
        if self._thread is None:
            return self._take_here(timeout_s)
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._refusal is not None, timeout_s)
            taken, self._waiting = self._waiting, []
            if not taken and self._refusal is not None:
                raise self._refusal
            return taken

    def sync(self) -> None:
        """Bring all that was taken to the disk itself, and acknowledge it. With a thread it has been already."""
        if self._thread is None:
            self._log.sync()
            self._acknowledge()

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Run in threads of its own. What it has logged and nobody has taken stays for `take`."""
        self._is_closing.clear()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        saving = threading.Thread(target=self._save, name="episodes", daemon=True)
        with before_others(is_wanted=self._goes_before_others):
            self._thread.start()
        saving.start()
        try:
            yield
        finally:
            self._is_closing.set()
            self._thread.join()
            saving.join()
            self._thread = None

    def left_over(self) -> list[Transition]:
        """Return what the thread has logged and nobody has taken."""
        taken, self._waiting = self._waiting, []
        return taken

    def _take_here(self, timeout_s: float) -> list[Transition]:
        transitions = self._link.receive(timeout_s)
        stored = self._stored(transitions)
        self._log.append(transitions)
        self._acknowledge()
        self._log.save_ended()
        return stored

    def _run(self) -> None:
        while not self._is_closing.is_set():
            if self._log.unsaved > MAX_UNSAVED:
                self._is_closing.wait(0.01)
                continue
            transitions = self._link.receive(RECEIVE_S)
            if not transitions:
                continue
            time.sleep(GATHER_S)
            transitions = [*transitions, *self._link.receive(0.0)]
            failpoint("learner.received")
            try:
                stored = self._stored(transitions)
            except DataError as error:
                with self._changed:
                    self._refusal = error
                    self._changed.notify()
                return
            if not self._write(transitions):
                return
            self._acknowledge()
            failpoint("learner.acknowledged")
            with self._changed:
                self._waiting.extend(stored)
                self._changed.notify()

    def _write(self, transitions: Sequence[Transition]) -> bool:
        """Bring transitions to the disk itself, however long it takes; return False if the program ended before."""
        while True:
            try:
                self._log.append(transitions)
                failpoint("learner.appended")
                self._log.sync()
            except DataError as error:
                self._count_refusal(error, "the actors keep what is not acknowledged")
                if self._is_closing.wait(self._retry_s):
                    return False
            else:
                return True

    def _save(self) -> None:
        """Make files of the episodes that have ended, for as long as the program runs."""
        wait_s = SAVE_PERIOD_S
        while not self._is_closing.wait(wait_s):
            try:
                self._log.save_ended()
                wait_s = SAVE_PERIOD_S
            except DataError as error:
                self._count_refusal(error, "the episode stays in its journal")
                wait_s = self._retry_s

    def _count_refusal(self, error: DataError, consequence: str) -> None:
        self._refused_writes += 1
        total = self._refused_writes
        if total & (total - 1) == 0:  # the 1st, 2nd, 4th, ...: it may last
            logger.error("%s; trying again, %s", error, consequence)

    def _acknowledge(self) -> None:
        synced = self._log.synced_sequences()
        for session, sequence in synced.items() - self._acknowledged.items():
            self._link.acknowledge(session, sequence)
        self._acknowledged = synced
