"""What the actor has made and the learner has not acknowledged: on disk, bounded, offered until acknowledged.

Each step costs one short SQLite transaction that survives the end of the process; syncing to the
disk waits for the end of an episode, so the control loop never does.
"""

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

from serl_core.clock import Clock
from serl_core.digests import not_of_here
from serl_core.errors import DataError, TransportError
from serl_core.transport.codec import decode_transition, encode_transition
from serl_core.transport.interface import ActorLink, Hello, LearnerStatus
from serl_core.types import EndReason, Transition

logger = logging.getLogger(__name__)

MAX_TRANSITIONS = 20_000
MAX_BYTES = 4 * 2**30
WARN_AT = (0.5, 0.8)  # of either limit
MAX_IN_FLIGHT_BYTES = 2**20  # offered, and not yet in the learner's memory
MAX_OFFERED_PER_PUMP = 64  # bounds what a tick of the control loop spends on a backlog
RESEND_S = 1.0

_SCHEMA = """
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 0;
    CREATE TABLE IF NOT EXISTS transitions (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        session TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        record BLOB NOT NULL,
        UNIQUE (session, sequence)
    );
    CREATE TABLE IF NOT EXISTS owner (one INTEGER PRIMARY KEY CHECK (one = 1), digest TEXT NOT NULL);
"""


class Spooled(NamedTuple):
    """A row of the spool."""

    place: int  # rises with every append, also over restarts
    session: str
    sequence: int
    record: bytes  # of the codec


class Spool:
    """A bounded file of transitions that wait for their acknowledgement. Used by one thread of one process.

    Always: made = acknowledged + spooled + dropped, where what was found at start counts as made.

    Args:
        path: of the SQLite file; made when missing.
        digest: of the task and encoder that its transitions are of. The learner compares it for the actor that
            connects, not for what an earlier one left.
        max_transitions: when reached, `is_full` tells the actor to pause.
        max_bytes: likewise, of records.
    """

    def __init__(
        self, path: Path, *, digest: str, max_transitions: int = MAX_TRANSITIONS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._path = Path(path)
        self._digest = digest
        self._max_transitions = max_transitions
        self._max_bytes = max_bytes
        self._database: sqlite3.Connection | None = None
        self._made = self._acknowledged = self._dropped = self._spooled = self._bytes = 0
        self._warned = 0  # how many of WARN_AT have been passed

    def open(self) -> Self:
        """Open the file and count what an earlier run left.

        Raises:
            DataError: the file is not a spool, another actor has it open, or it has leftovers of another digest.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self._path, isolation_level=None, timeout=0.0)
            self._database.executescript(_SCHEMA)
            found = self._database.execute("SELECT COUNT(*), TOTAL(LENGTH(record)) FROM transitions").fetchone()
            self._own(int(found[0]))
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise DataError(
                f"spool {self._path} cannot be used ({error}): stop the other actor, or move the file away"
            ) from None
        self._made = self._spooled = int(found[0])
        self._bytes = int(found[1])
        self._acknowledged = self._dropped = self._warned = 0
        return self

    def _own(self, leftovers: int) -> None:
        """Write the digest into the file, or refuse one whose `leftovers` are of another."""
        assert self._database is not None
        owner = self._database.execute("SELECT digest FROM owner").fetchone()
        if leftovers and (owner is None or owner[0] != self._digest):
            self.close()
            remedy = "deliver them to their own learner, move the file away, or name another --run"
            what = f"spool {self._path} ({leftovers} transitions that no learner acknowledged)"
            raise DataError(not_of_here(what, "unknown" if owner is None else owner[0], self._digest, remedy))
        self._database.execute("INSERT OR REPLACE INTO owner VALUES (1, ?)", (self._digest,))

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_full(self) -> bool:
        """Whether the actor must pause until the learner has acknowledged some."""
        return self._fill() >= 1.0

    def append(self, transition: Transition) -> None:
        """Keep a transition until it is acknowledged. On return it survives the end of this process.

        Raises:
            TransportError: the spool is full, or a number of the transition is not finite; it counts as
                dropped.
        """
        self._made += 1
        try:
            if self.is_full:
                raise TransportError(
                    f"spool {self._path} is full ({self._spooled} transitions, {self._bytes} bytes): "
                    f"pause until the learner acknowledges"
                )
            record = encode_transition(transition)
            assert transition.provenance is not None  # else it has no record
            self._execute(
                "INSERT INTO transitions (session, sequence, record) VALUES (?, ?, ?)",
                (transition.provenance.session, transition.provenance.sequence, record),
            )
        except (TransportError, DataError):
            self._dropped += 1
            raise
        self._spooled += 1
        self._bytes += len(record)
        while self._warned < len(WARN_AT) and self._fill() >= WARN_AT[self._warned]:
            logger.warning(
                "spool %s is %.0f %% full: the learner does not keep up", self._path, 100 * WARN_AT[self._warned]
            )
            self._warned += 1

    def acknowledge(self, session: str, upto: int) -> None:
        """Forget all of `session` up to and with sequence `upto`."""
        rows = self._execute(
            "DELETE FROM transitions WHERE session = ? AND sequence <= ? RETURNING LENGTH(record)", (session, upto)
        ).fetchall()
        self._acknowledged += len(rows)
        self._spooled -= len(rows)
        self._bytes -= sum(size for (size,) in rows)
        self._warned = sum(self._fill() >= level for level in WARN_AT)

    def pending(self, limit: int, after: int = 0) -> list[Spooled]:
        """Return up to `limit` unacknowledged rows with a `place` beyond `after`, oldest first."""
        rows = self._execute(
            "SELECT place, session, sequence, record FROM transitions WHERE place > ? ORDER BY place LIMIT ?",
            (after, limit),
        )
        return [Spooled(*row) for row in rows]

    def count(self, after: int) -> int:
        """Return how many rows have a `place` beyond `after`."""
        return int(self._execute("SELECT COUNT(*) FROM transitions WHERE place > ?", (after,)).fetchone()[0])

    def counters(self) -> Mapping[str, int]:
        """Return made, acknowledged, spooled and dropped."""
        return {
            "made": self._made,
            "acknowledged": self._acknowledged,
            "spooled": self._spooled,
            "dropped": self._dropped,
        }

    def sync(self) -> None:
        """Bring everything to the disk itself; takes milliseconds, so call it between episodes."""
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _fill(self) -> float:
        return max(self._spooled / self._max_transitions, self._bytes / self._max_bytes)

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if self._database is None:
            raise DataError(f"spool {self._path} is not open")
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise DataError(f"spool {self._path}: {error}; make room on its disk or move the file away") from error


class _Sent(NamedTuple):
    row: Spooled
    sent_s: float


class SpooledSender:
    """Brings the spool's transitions to the learner, in order, until each is acknowledged.

    Transitions of earlier sessions that an actor left behind go first. At most MAX_IN_FLIGHT_BYTES
    are under way; what the learner's status shows as lost is offered again.
    """

    def __init__(
        self, spool: Spool, link: ActorLink, *, resend_s: float = RESEND_S, clock: Clock = time.monotonic
    ) -> None:
        self._spool = spool
        self._link = link
        self._resend_s = resend_s
        self._clock = clock
        self._place = 0  # of the last row offered
        self._in_flight: deque[_Sent] = deque()
        self._received: dict[str, int] = {}  # by session
        self._acked: dict[str, int] = {}  # by session
        self._status: LearnerStatus | None = None

    @property
    def status(self) -> LearnerStatus | None:
        """The newest word from the learner; None before the first."""
        return self._status

    @property
    def is_full(self) -> bool:
        """Whether the actor must pause: the spool has no room for another step."""
        return self._spool.is_full

    @property
    def unreceived(self) -> int:
        """How many transitions have not arrived at the learner, as far as `status` tells."""
        return len(self._in_flight) + self._spool.count(self._place)

    def connect(self, hello: Hello, timeout_s: float) -> LearnerStatus:
        """Reach the learner. Raises TransportError when it refuses, or when nobody answers."""
        status = self._link.connect(hello, timeout_s)
        self._apply(status)
        return status

    def send(self, transition: Transition) -> None:
        """Keep a transition for delivery. Raises TransportError when the spool is full."""
        self._spool.append(transition)
        if transition.end != EndReason.RUNNING:
            self._spool.sync()

    def pump(self) -> None:
        """Take in statuses and offer what is due. Never blocks; call it each tick.

        Raises:
            TransportError: the learner refuses this actor.
        """
        while (status := self._link.poll()) is not None:
            self._apply(status)
        self._offer()

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged, or `timeout_s`. Return whether it is."""
        end_s = self._clock() + timeout_s
        self.pump()
        while self._spool.counters()["spooled"] and self._clock() < end_s:
            status = self._link.poll(min(0.1, timeout_s))
            if status is not None:
                self._apply(status)
            self._offer()
        return not self._spool.counters()["spooled"]

    def counters(self) -> Mapping[str, int]:
        """Return the spool's made, acknowledged, spooled and dropped."""
        return self._spool.counters()

    def _apply(self, status: LearnerStatus) -> None:
        self._status = status
        session, received = status.session, max(status.received_sequence, status.acked_sequence)
        if status.acked_sequence > self._acked.get(session, -1):
            self._spool.acknowledge(session, status.acked_sequence)
            self._acked[session] = status.acked_sequence
        if received < self._received.get(session, -1):  # the learner has restarted and lost its memory
            self._rewind(0)
        self._received[session] = received
        self._in_flight = deque(
            sent for sent in self._in_flight if sent.row.session != session or sent.row.sequence > received
        )
        if self._in_flight and self._clock() - self._in_flight[0].sent_s > self._resend_s:
            self._rewind(self._in_flight[0].row.place - 1)

    def _rewind(self, place: int) -> None:
        self._place = place
        self._in_flight.clear()

    def _offer(self) -> None:
        room = MAX_IN_FLIGHT_BYTES - sum(len(sent.row.record) for sent in self._in_flight)
        if room <= 0:
            return
        rows = []
        for row in self._spool.pending(MAX_OFFERED_PER_PUMP, self._place):
            room -= len(row.record)
            rows.append(row)
            if room <= 0:
                break
        now_s = self._clock()
        for _, group in groupby(rows, key=lambda row: row.session):
            offered = list(group)
            self._link.offer([decode_transition(row.record) for row in offered])
            self._place = offered[-1].place
            self._in_flight.extend(_Sent(row, now_s) for row in offered)
