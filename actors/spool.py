"""What the actor has made and the learner has not acknowledged: on disk, bounded, offered until acknowledged.

Each step costs one short SQLite transaction that survives the end of the process; syncing to the
disk waits for the end of an episode, so the control loop never does.
"""

import logging
import sqlite3
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Self

from serl_core.digests import not_of_here
from serl_core.errors import DataError, TransportError
from serl_core.failpoints import failpoint
from serl_core.transport.codec import encode_transition
from serl_core.types import Transition

logger = logging.getLogger(__name__)

MAX_TRANSITIONS = 20_000
MAX_BYTES = 4 * 2**30
WARN_AT = (0.5, 0.8)  # of either limit
MAX_FRESH_BYTES = 2**18  # of the newest records, which memory has too: what is offered at once is not read again
MAX_QUARANTINED = 1000  # of a spool; what is more is dropped, and counted as such

_SCHEMA = """
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = 16777216;
    PRAGMA secure_delete = OFF;
    CREATE TABLE IF NOT EXISTS transitions (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        session TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        record BLOB NOT NULL,
        UNIQUE (session, sequence)
    );
    CREATE TABLE IF NOT EXISTS quarantine (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        session TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        reason TEXT NOT NULL,
        record BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS owner (one INTEGER PRIMARY KEY CHECK (one = 1), digest TEXT NOT NULL);
"""


class Spooled(NamedTuple):
    """A row of the spool."""

    place: int  # rises with every append, also over restarts
    session: str
    sequence: int
    record: bytes  # of the codec
    is_from_disk: bool = True  # which may have changed it


class Quarantined(NamedTuple):
    """A transition that can never be sent, and why."""

    session: str
    sequence: int
    reason: str
    record: bytes  # of the codec, but that its numbers need not be finite


class Spool:
    """A bounded file of transitions that wait for their acknowledgement. Used by one thread of one process.

    Always: made = acknowledged + spooled + quarantined + dropped, where what was found at start counts as made.

    The quarantine is a table of the same file, of what can never be sent: numbers that are not finite, what the
    learner refuses. It stays there, with the reason, for whoever looks for the cause.

    Args:
        path: of the SQLite file; made when missing.
        digest: of the task and encoder that its transitions are of. The learner compares it for the actor that
            connects, not for what an earlier one left.
        max_transitions: when reached, `is_full` tells the actor to pause.
        max_bytes: likewise, of records.
        drops_oldest: it is never full: the oldest make room for the newest, and count as dropped.
    """

    def __init__(
        self,
        path: Path,
        *,
        digest: str,
        max_transitions: int = MAX_TRANSITIONS,
        max_bytes: int = MAX_BYTES,
        drops_oldest: bool = False,
    ) -> None:
        self._path = Path(path)
        self._digest = digest
        self._max_transitions = max_transitions
        self._max_bytes = max_bytes
        self._drops_oldest = drops_oldest
        self._database: sqlite3.Connection | None = None
        self._made = self._acknowledged = self._dropped = self._spooled = self._quarantined = self._bytes = 0
        self._warned = 0  # how many of WARN_AT have been passed
        self._fresh: deque[Spooled] = deque()  # all rows from the first of these on

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
        self._acknowledged = self._dropped = self._quarantined = self._warned = 0
        self._fresh.clear()
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
        """Bring all of it to the disk and close the file. Safe to call twice."""
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
        return not self._drops_oldest and self._fill() >= 1.0

    def append(self, transition: Transition) -> int | None:
        """Keep a transition until it is acknowledged; return its `place`. On return it survives this process.

        One with a number that is not finite goes into quarantine instead, and has no place.

        Raises:
            TransportError: the spool is full; the transition counts as dropped.
        """
        self._made += 1
        if self.is_full:
            self._dropped += 1
            raise TransportError(
                f"spool {self._path} is full ({self._spooled} transitions, {self._bytes} bytes): "
                f"pause until the learner acknowledges"
            )
        try:
            record = encode_transition(transition)
        except TransportError as error:
            self._set_aside(transition, str(error))
            return None
        while self._spooled and self._fill() >= 1.0:
            self._drop_oldest()
        try:
            assert transition.provenance is not None  # else it has no record
            numbers = transition.provenance.session, transition.provenance.sequence
            failpoint("spool.append")
            place = self._execute(
                "INSERT INTO transitions (session, sequence, record) VALUES (?, ?, ?)", (*numbers, record)
            ).lastrowid
            failpoint("spool.appended")
        except (TransportError, DataError):
            self._dropped += 1
            raise
        assert place is not None  # of an insertion
        self._spooled += 1
        self._bytes += len(record)
        self._refresh(Spooled(place, *numbers, record, is_from_disk=False))
        while self._warned < len(WARN_AT) and self._fill() >= WARN_AT[self._warned]:
            logger.warning(
                "spool %s is %.0f %% full: the learner does not keep up", self._path, 100 * WARN_AT[self._warned]
            )
            self._warned += 1
        return place

    def amend(self, transition: Transition) -> None:
        """Keep this in the place of the transition of the same number: after a kill there is one or the other.

        Raises:
            TransportError: a number of it is not finite; the former one stays.
            DataError: there is none of this number.
        """
        record = encode_transition(transition)
        assert transition.provenance is not None  # else it has no record
        session, sequence = transition.provenance.session, transition.provenance.sequence
        found = self._execute(
            "SELECT place, LENGTH(record) FROM transitions WHERE session = ? AND sequence = ?", (session, sequence)
        ).fetchone()
        if found is None:
            raise DataError(
                f"spool {self._path}: has no transition {sequence} of session {session} to amend; amend only what is "
                "held back"
            )
        failpoint("spool.amend")
        self._execute("UPDATE transitions SET record = ? WHERE place = ?", (record, found[0]))
        failpoint("spool.amended")
        self._fresh.clear()
        self._bytes += len(record) - int(found[1])

    def acknowledge(self, session: str, upto: int, limit: int = -1) -> int:
        """Forget all of `session` up to and with sequence `upto`, or the oldest `limit`; return how many it were."""
        failpoint("spool.acknowledge")
        rows = self._execute(
            "DELETE FROM transitions WHERE place IN (SELECT place FROM transitions WHERE session = ? AND sequence <= ? "
            "ORDER BY sequence LIMIT ?) RETURNING place, LENGTH(record)",
            (session, upto, limit),
        ).fetchall()
        failpoint("spool.acknowledged")
        sizes = dict(rows)
        self._fresh = deque(row for row in self._fresh if row.place not in sizes)
        self._acknowledged += len(sizes)
        self._spooled -= len(sizes)
        self._bytes -= sum(sizes.values())
        self._warned = sum(self._fill() >= level for level in WARN_AT)
        return len(rows)

    def _drop_oldest(self) -> None:
        (dropped,) = self._execute(
            "DELETE FROM transitions WHERE place = (SELECT MIN(place) FROM transitions) RETURNING LENGTH(record)"
        ).fetchall()
        self._fresh.clear()
        self._dropped += 1
        self._spooled -= 1
        self._bytes -= int(dropped[0])
        if self._dropped & (self._dropped - 1) == 0:  # the 1st, 2nd, 4th, ...
            logger.error("spool %s is full: dropped %d of the oldest transitions so far", self._path, self._dropped)

    def quarantine(self, transition: Transition, reason: str) -> None:
        """Keep a transition that was made, and is never to be sent. On return it survives this process."""
        self._made += 1
        self._set_aside(transition, reason)

    def withdraw(self, session: str, sequence: int, reason: str) -> bool:
        """Bring a transition that the learner refuses into quarantine; return False if there is none of this number."""
        found = self._execute(
            "SELECT place, record FROM transitions WHERE session = ? AND sequence = ?", (session, sequence)
        ).fetchone()
        if found is None:
            return False
        place, record = int(found[0]), bytes(found[1])
        self._execute("BEGIN")  # after a kill it is in one table or the other
        try:
            self._execute("DELETE FROM transitions WHERE place = ?", (place,))
            is_kept = self._keep_aside(session, sequence, reason, record)
            self._execute("COMMIT")
        except DataError:
            self._execute("ROLLBACK")
            raise
        self._fresh.clear()
        self._count_aside(is_kept)
        self._spooled -= 1
        self._bytes -= len(record)
        return True

    def quarantined(self) -> list[Quarantined]:
        """Return all that is in quarantine, also of earlier runs, oldest first."""
        rows = self._execute("SELECT session, sequence, reason, record FROM quarantine ORDER BY place")
        return [Quarantined(*row) for row in rows]

    def before(self, session: str, sequence: int) -> int:
        """Return the number of the last unacknowledged transition of `session` before `sequence`; -1 for none."""
        found = self._execute(
            "SELECT MAX(sequence) FROM transitions WHERE session = ? AND sequence < ?", (session, sequence)
        ).fetchone()[0]
        return -1 if found is None else int(found)

    def _set_aside(self, transition: Transition, reason: str) -> None:
        provenance = transition.provenance
        try:
            if provenance is None:
                raise TransportError(f"spool {self._path}: {reason}")
            record = encode_transition(transition, is_checked=False)
            is_kept = self._keep_aside(provenance.session, provenance.sequence, reason, record)
        except (TransportError, DataError):  # it has no record of any kind, or the disk is full
            self._dropped += 1
            raise
        self._count_aside(is_kept)

    def _count_aside(self, is_kept: bool) -> None:
        self._quarantined += is_kept
        self._dropped += not is_kept

    def _keep_aside(self, session: str, sequence: int, reason: str, record: bytes) -> bool:
        if self._execute("SELECT COUNT(*) FROM quarantine").fetchone()[0] >= MAX_QUARANTINED:
            logger.error("quarantine of %s is full: dropped transition %d of %s", self._path, sequence, session)
            return False
        self._execute(
            "INSERT INTO quarantine (session, sequence, reason, record) VALUES (?, ?, ?, ?)",
            (session, sequence, reason, record),
        )
        logger.error(
            "transition %d of session %s is in the quarantine of %s: %s", sequence, session, self._path, reason
        )
        return True

    def pending(self, limit: int, after: int = 0) -> list[Spooled]:
        """Return up to `limit` unacknowledged rows with a `place` beyond `after`, oldest first."""
        return list(self.rows(limit, after))

    def rows(self, limit: int, after: int = 0) -> Generator[Spooled, None, None]:
        """Yield them one at a time. Close it: the file cannot be synced meanwhile."""
        if self._fresh and self._fresh[0].place <= after + 1:
            yield from [row for row in self._fresh if row.place > after][:limit]
            return
        with closing(
            self._execute(
                "SELECT place, session, sequence, record FROM transitions WHERE place > ? ORDER BY place LIMIT ?",
                (after, limit),
            )
        ) as found:
            for row in found:
                yield Spooled(*row)

    def has(self, session: str, sequence: int) -> bool:
        """Return whether a transition is neither acknowledged, nor dropped, nor in quarantine."""
        query = "SELECT COUNT(*) FROM transitions WHERE session = ? AND sequence = ?"
        return bool(self._execute(query, (session, sequence)).fetchone()[0])

    def count(self, after: int) -> int:
        """Return how many rows have a `place` beyond `after`."""
        return int(self._execute("SELECT COUNT(*) FROM transitions WHERE place > ?", (after,)).fetchone()[0])

    def counters(self) -> Mapping[str, int]:
        """Return made, acknowledged, spooled, quarantined and dropped: the first is the sum of the others."""
        counts = {
            "acknowledged": self._acknowledged,
            "spooled": self._spooled,
            "quarantined": self._quarantined,
            "dropped": self._dropped,
        }
        assert self._made == sum(counts.values()), f"of {self._made} transitions made, {counts}"
        return {"made": self._made, **counts}

    def sync(self) -> None:
        """Bring everything to the disk itself; takes milliseconds, so call it between episodes.

        Raises:
            DataError: the disk is full or gone.
        """
        failpoint("spool.sync")
        self._execute("PRAGMA wal_checkpoint(PASSIVE)")  # the log is used again from its beginning: no new blocks
        failpoint("spool.synced")

    def _refresh(self, row: Spooled) -> None:
        self._fresh.append(row)
        while sum(len(each.record) for each in self._fresh) > MAX_FRESH_BYTES:
            self._fresh.popleft()

    def _fill(self) -> float:
        return max(self._spooled / self._max_transitions, self._bytes / self._max_bytes)

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if self._database is None:
            raise DataError(f"spool {self._path} is not open")
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise DataError(f"spool {self._path}: {error}; make room on its disk or move the file away") from error
