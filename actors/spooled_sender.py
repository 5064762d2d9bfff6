"""Brings what the spool keeps to the learner, in order, until each transition is acknowledged."""

import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing
from itertools import groupby
from typing import NamedTuple

from actors.spool import Spool, Spooled
from serl_core.clock import Clock
from serl_core.errors import TransportError
from serl_core.transport.codec import is_whole
from serl_core.transport.interface import ActorLink, Hello, LearnerStatus
from serl_core.transport.schema import misfit
from serl_core.types import EndReason, EnvSpec, Transition

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT_BYTES = 2**20  # offered, and not yet in the learner's memory
MAX_OFFERED_PER_PUMP = 128  # bounds what a tick of the control loop spends on a backlog, as does the next
MAX_OFFERED_BYTES_PER_PUMP = 2**18
MAX_FORGOTTEN_PER_PUMP = 128  # likewise: after an outage thousands are acknowledged at once
STEPS_TO_FORGET = 4  # what is acknowledged waits for as many: to forget it costs a transaction
RESEND_S = 1.0  # without progress; doubles up to the next while there is none
MAX_RESEND_S = 16.0


class _Sent(NamedTuple):
    row: Spooled
    sent_s: float


class SpooledSender:
    """Brings the spool's transitions to the learner, in order, until each is acknowledged.

    Transitions of earlier sessions that an actor left behind go first. At most MAX_IN_FLIGHT_BYTES
    are under way; what the learner's status shows as lost is offered again. One that the learner refuses
    goes into the spool's quarantine, and the next one follows.

    Args:
        spool: open.
        link: to the learner.
        spec: of what transitions hold; None leaves the check to the learner.
        resend_s: how long to wait for progress before all that is under way is offered again.
        clock: for that.
    """

    def __init__(
        self,
        spool: Spool,
        link: ActorLink,
        *,
        spec: EnvSpec | None = None,
        resend_s: float = RESEND_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self._spool = spool
        self._spec = spec
        self._has_fitted = False  # any transition so far
        self._patience_s = resend_s
        self._progress_s: float | None = -math.inf  # of the last one seen; None: since the last look
        self._link = link
        self._resend_s = resend_s
        self._clock = clock
        self._place = 0  # of the last row offered
        self._in_flight: deque[_Sent] = deque()
        self._held: dict[tuple[str, int], int] = {}  # places of what is not offered yet, by session and sequence
        self._received: dict[str, int] = {}  # by session
        self._acked: dict[str, int] = {}  # by session
        self._settled: dict[str, int] = {}  # likewise, while the spool has any of them still
        self._steps = 0  # sent since it has forgotten all that it may
        self._is_step_new = False  # since the last pump
        self._status: LearnerStatus | None = None
        self._sent = 0
        self._is_sync_due = False  # an episode has ended

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
        self._forget()
        return status

    def send(self, transition: Transition, *, is_held: bool = False) -> None:
        """Keep a transition for delivery. One that can never be sent goes into quarantine, and the rest goes on.

        Raises:
            TransportError: the spool is full, or the first of all transitions is not one of this task.

        Args:
            is_held: offer neither it nor what comes after it before `release`. Only this process knows: if it ends
                before, the next one offers the transition as it is.
        """
        problem = misfit(transition, self._spec) if self._spec is not None else None
        if problem is not None:
            self._spool.quarantine(transition, problem)
            if not self._has_fitted:
                raise TransportError(
                    f"what this actor makes is not of its learner's task: {problem}; compare its cameras with the task"
                )
            return
        self._has_fitted = True
        self._steps, self._is_step_new = self._steps + 1, True
        place = self._spool.append(transition)
        if place is not None and is_held and transition.provenance is not None:
            self._held[transition.provenance.session, transition.provenance.sequence] = place
        if transition.end != EndReason.RUNNING:
            self._is_sync_due = True

    def release(self, held: Transition, amended: Transition | None = None) -> None:
        """Offer a transition that was held back from now on; `amended` takes its place on the disk first."""
        assert held.provenance is not None  # else it has not been sent
        if (held.provenance.session, held.provenance.sequence) not in self._held:
            return  # it went into quarantine
        if amended is not None and self._spool.has(held.provenance.session, held.provenance.sequence):
            self._spool.amend(amended)
            self._spool.sync()
        del self._held[held.provenance.session, held.provenance.sequence]

    def pump(self) -> None:
        """Take in statuses and offer what is due. Never waits for the learner; call it each tick.

        After the end of an episode it syncs the spool, which takes some milliseconds: the learner does not wait for
        that, and the arm has its reset before it.

        Raises:
            TransportError: the learner refuses this actor.
        """
        while (status := self._link.poll()) is not None:
            self._apply(status)
        if not self._is_step_new or self._steps >= STEPS_TO_FORGET or self._is_sync_due:
            self._forget()
        self._is_step_new = False
        self._offer()
        if self._is_sync_due:
            self._spool.sync()
            self._is_sync_due = False

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything is acknowledged, or `timeout_s`. Return whether it is."""
        end_s = self._clock() + timeout_s
        self.pump()
        while self._spool.counters()["spooled"] and self._clock() < end_s:
            status = self._link.poll(min(0.1, timeout_s))
            if status is not None:
                self._apply(status)
            self._forget()
            self._offer()
        return not self._spool.counters()["spooled"]

    def counters(self) -> Mapping[str, int]:
        """Return the spool's counters, and how many were sent, those sent again included."""
        return {**self._spool.counters(), "sent": self._sent}

    def _apply(self, status: LearnerStatus) -> None:
        is_another = self._status is not None and status.learner != self._status.learner
        self._status = status
        session, received = status.session, max(status.received_sequence, status.acked_sequence)
        if status.acked_sequence > self._acked.get(session, -1):
            self._acked[session] = self._settled[session] = status.acked_sequence
        if is_another:
            self._received.clear()
        if is_another or received < self._received.get(session, -1):  # it has lost its memory, and what was under way
            self._rewind(0)
        if received > self._received.get(session, -1):
            self._progress_s, self._patience_s = None, self._resend_s
        self._received[session] = received
        if status.rejection and self._spool.withdraw(session, received + 1, status.rejection):
            self._rewind(0)
        self._in_flight = deque(
            sent for sent in self._in_flight if sent.row.session != session or sent.row.sequence > received
        )
        if not self._in_flight:
            return
        now_s = self._clock()
        if self._progress_s is None:
            self._progress_s = now_s
        if now_s - max(self._progress_s, self._in_flight[0].sent_s) > self._patience_s:
            self._rewind(self._in_flight[0].row.place - 1)
            self._patience_s = min(2 * self._patience_s, MAX_RESEND_S)  # a slow line may have much of it already

    def _rewind(self, place: int) -> None:
        self._place = place
        self._in_flight.clear()

    def _forget(self) -> None:
        """Drop some of what is acknowledged from the spool."""
        for session, upto in tuple(self._settled.items()):
            if self._spool.acknowledge(session, upto, MAX_FORGOTTEN_PER_PUMP) == MAX_FORGOTTEN_PER_PUMP:
                return
            del self._settled[session]
        self._steps = 0

    def _offer(self) -> None:
        room = MAX_IN_FLIGHT_BYTES - sum(len(sent.row.record) for sent in self._in_flight)
        if room <= 0:
            return
        room = min(room, MAX_OFFERED_BYTES_PER_PUMP)
        rows = []
        first_held = min(self._held.values(), default=math.inf)
        with closing(self._spool.rows(MAX_OFFERED_PER_PUMP, self._place)) as waiting:
            for row in waiting:
                if row.place >= first_held:
                    break
                if row.sequence <= self._acked.get(row.session, -1):
                    continue
                room -= len(row.record)
                rows.append(row)
                if room <= 0:
                    break
        damaged = [row for row in rows if row.is_from_disk and not is_whole(row.record)]
        for row in damaged:
            self._spool.withdraw(row.session, row.sequence, "the disk has changed it")
        rows = [row for row in rows if row not in damaged]
        now_s = self._clock()
        for session, group in groupby(rows, key=lambda row: row.session):
            offered = list(group)
            after = self._spool.before(session, offered[0].sequence)
            self._link.offer_records(session, [(row.sequence, row.record) for row in offered], after=after)
            self._place = offered[-1].place
            self._sent += len(offered)
            self._in_flight.extend(_Sent(row, now_s) for row in offered)
