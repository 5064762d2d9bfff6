"""What a learner's end says and hears, without a socket: the thread behind a link lends it one."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from serl_core.errors import TransportError
from serl_core.failpoints import failpoint
from serl_core.transport import wire
from serl_core.transport.codec import DamagedRecord, decode_transition
from serl_core.transport.inbox import Inbox, mismatch
from serl_core.transport.interface import LearnerStatus
from serl_core.transport.schema import misfit
from serl_core.transport.socket_thread import Send
from serl_core.types import EnvSpec, Transition

logger = logging.getLogger(__name__)

MAX_ACTORS = 64
ACTOR_GONE_S = 3.0  # without a greeting
PROGRESS_PERIOD_S = 0.1  # between looks at the training's progress, and between statuses that nobody waits for
LEAST_PIECE_BYTES, MOST_PIECE_BYTES = 2**16, 2**20  # of weights: the fewer pieces, the less work for each
PIECE_S = 0.05  # that a piece should take on its line: a status waits behind no more
WEIGHTS_BYTES_PER_S = 2e8  # to all actors together: they share their machines with what must not wait
HOLD_S = 0.02  # between pieces of weights, while there is experience to acknowledge
BURST_S = HOLD_S + 0.005  # of weights, to make up for that, and for a thread that does not wake up to the microsecond
MAX_STRIKES = 3  # bad messages of one connection
MAX_REMEMBERED = 1024  # connections with strikes


@dataclass
class _Peer:
    """An actor, as its learner knows it."""

    name: str  # for people
    session: str
    seen_s: float
    sent: dict[str, LearnerStatus | None] = field(default_factory=dict)  # by session
    sent_s: float = -math.inf  # when the last of them was
    weights_record: tuple[int, memoryview] | None = None  # that it is getting, although there may be newer ones
    piece_bytes: int = LEAST_PIECE_BYTES  # of the next one
    given: tuple[int, float] | None = None  # size of the last one, and when

    def time_piece(self, now_s: float) -> None:
        """Fit the next piece to the line: the actor asks for more as soon as it has the last one."""
        if self.given is not None:
            size, given_s = self.given
            fitting = size * PIECE_S / max(now_s - given_s, 1e-3)
            self.piece_bytes = int(np.clip(fitting, LEAST_PIECE_BYTES, MOST_PIECE_BYTES))
            self.given = None


class LearnerSide:
    """Answers greetings, takes offers into the inbox, gives weights, in pieces, to those who pull.

    A connection that says three things that no actor says is cut, and nothing of what it has sent is read any more.
    A transition that is whole and not of this task is no such thing: it is refused by a reason in the status.

    Attributes:
        peers: the actors that are there, by connection.
        weights_record: version and record of the newest weights.
    """

    keeps_frames = True  # a record goes to the log as it came

    def __init__(self, spec_digest: str, inbox: Inbox, spec: EnvSpec | None = None) -> None:
        self.peers: dict[bytes, _Peer] = {}
        self.weights_record: tuple[int, memoryview] | None = None
        self._spec_digest = spec_digest
        self._inbox = inbox
        self._spec = spec
        self._strikes: dict[bytes, int] = {}
        self._pulls: dict[bytes, wire.Pull] = {}  # of actors whose turn has not come
        self._weights_at_s = self._given_s = -math.inf  # their turn, and the last one

    def tick(self, send: Send, now_s: float) -> float:
        """Tell each actor what has changed. Returns the seconds until there may be more to do."""
        failpoint("link.learner")
        self._forget_those_gone(now_s)
        awaited = self._inbox.awaited()
        for identity, peer in self.peers.items():
            is_due = now_s - peer.sent_s >= PROGRESS_PERIOD_S
            for session, sent in list(peer.sent.items()):
                if not (is_due or sent is None or session in awaited):
                    continue
                status = self._inbox.status(session)
                if status != sent:
                    send([identity, wire.encode(wire.Status(*status))])
                    peer.sent[session], peer.sent_s = status, now_s
                if session != peer.session and status.acked_sequence >= status.received_sequence:
                    del peer.sent[session]  # an earlier session, now complete
        self._give_weights(send, now_s)
        if not self._pulls:
            return PROGRESS_PERIOD_S
        return min(PROGRESS_PERIOD_S, max(self._weights_due_s - now_s, 0.0))

    def handle(self, frames: Sequence[bytes | memoryview], send: Send, now_s: float) -> bool:
        """Take in one message, its connection's name first. Return whether that connection is to be cut."""
        identity, *parts = map(bytes, frames)  # which copies nothing
        if self._strikes.get(identity, 0) >= MAX_STRIKES:
            self._inbox.count("rejected")
            return False  # what was on its way when it was cut
        try:
            self._take_in(identity, parts, send, now_s)
        except (TransportError, ValueError) as error:
            return self._strike(identity, error)
        return False

    def farewell(self, send: Send) -> None:
        """Send the last statuses."""
        for identity, peer in self.peers.items():
            for session in peer.sent:
                send([identity, wire.encode(wire.Status(*self._inbox.status(session)))])

    def _forget_those_gone(self, now_s: float) -> None:
        gone = [identity for identity, peer in self.peers.items() if now_s - peer.seen_s >= ACTOR_GONE_S]
        for peer in [self.peers.pop(identity) for identity in gone]:
            if all(other.session != peer.session for other in self.peers.values()):
                logger.warning("no word from %s for %g s", peer.name, ACTOR_GONE_S)

    def _strike(self, identity: bytes, error: Exception) -> bool:
        total = self._inbox.count("rejected")
        if total & (total - 1) == 0:  # the 1st, 2nd, 4th, ...: a flood must not fill the log
            logger.warning("rejected a message, %d so far: %s", total, error)
        self._strikes[identity] = self._strikes.pop(identity, 0) + 1
        while len(self._strikes) > MAX_REMEMBERED:
            del self._strikes[next(iter(self._strikes))]
        if self._strikes[identity] < MAX_STRIKES:
            return False
        self.peers.pop(identity, None)
        return True

    def _take_in(self, identity: bytes, parts: Sequence[bytes], send: Send, now_s: float) -> None:
        head, *records = parts
        protocol = wire.foreign_protocol(head)
        if protocol is not None:
            self._refuse(
                identity,
                f"the actor speaks protocol {protocol}, the learner {wire.PROTOCOL}: update the older one",
                send,
            )
            return
        message = wire.decode_from_actor(head)
        if isinstance(message, wire.Greeting):
            self._greet(identity, message, send, now_s)
        elif isinstance(message, wire.Leaving):
            if (left := self.peers.pop(identity, None)) is not None:
                logger.info("left: %s", left.name)
        elif identity in self.peers and isinstance(message, wire.Offer):
            self._take(self.peers[identity], message, records)
        elif identity in self.peers and isinstance(message, wire.Pull):
            self.peers[identity].time_piece(now_s)
            self._pulls[identity] = message
            self._give_weights(send, now_s)

    def _greet(self, identity: bytes, greeting: wire.Greeting, send: Send, now_s: float) -> None:
        if greeting.spec_digest != self._spec_digest:
            self._refuse(identity, mismatch(greeting.spec_digest, self._spec_digest), send)
            return
        if identity not in self.peers and len(self.peers) >= MAX_ACTORS:
            self._refuse(identity, f"{MAX_ACTORS} actors are connected already; that is the most", send)
            return
        peer = self.peers.get(identity)
        if peer is None:
            peer = self.peers[identity] = _Peer(
                f"actor {greeting.actor_id!r}, session {greeting.session}", greeting.session, 0.0
            )
            self._inbox.count("introduced")
            logger.info("connected: %s", peer.name)
        peer.session = greeting.session
        peer.seen_s = now_s
        peer.sent = dict.fromkeys([greeting.session, *peer.sent])  # answer with everything, sent before or not

    def _refuse(self, identity: bytes, reason: str, send: Send) -> None:
        self.peers.pop(identity, None)
        send([identity, wire.encode(wire.Refusal(reason))])

    def _give_weights(self, send: Send, now_s: float) -> None:
        """Give pieces as fast as is allowed, to who has the most already: not all are to unpack at the same time."""
        while self._pulls and now_s >= self._weights_due_s:
            identity = max(self._pulls, key=lambda identity: self._pulls[identity].offset)
            pull = self._pulls.pop(identity)
            if identity in self.peers:
                size = self._give_piece(identity, pull, send, now_s)
                self._given_s = now_s
                self._weights_at_s = max(self._weights_at_s, now_s - BURST_S) + size / WEIGHTS_BYTES_PER_S

    @property
    def _weights_due_s(self) -> float:
        return max(self._weights_at_s, self._given_s + HOLD_S) if self._inbox.is_behind else self._weights_at_s

    def _give_piece(self, identity: bytes, pull: wire.Pull, send: Send, now_s: float) -> int:
        """Give the next piece of what the actor is getting, or the first one of the newest weights; return its size."""
        peer = self.peers[identity]
        if peer.weights_record is None or peer.weights_record[0] != pull.version or pull.version <= pull.than_version:
            peer.weights_record = self.weights_record
        if peer.weights_record is None or peer.weights_record[0] <= pull.than_version:
            return 0
        version, record = peer.weights_record
        offset = pull.offset if version == pull.version and pull.offset < len(record) else 0
        piece = record[offset : offset + peer.piece_bytes]
        if not send([identity, wire.encode(wire.Weights(version, len(record), offset)), piece]):
            return 0  # its line is full: it asks again
        peer.given = len(piece), now_s
        if offset + len(piece) == len(record):
            peer.weights_record = peer.given = None  # it does not ask for more
        return len(piece)

    def _take(self, peer: _Peer, offer: wire.Offer, records: Sequence[bytes]) -> None:
        peer.sent.setdefault(offer.session, None)
        expected = self._inbox.begin(offer.session, offer.base, after=offer.after, first=offer.first)
        repeated = min(max(expected - offer.first, 0), len(records))
        self._inbox.count("duplicate", repeated)
        for sequence, record in enumerate(records[repeated:], offer.first + repeated):
            transition, problem = self._read(record)
            if transition is None:
                self._inbox.refuse(offer.session, sequence, problem)
                return
            found = transition.provenance
            if found is None or (found.session, found.sequence) != (offer.session, sequence):
                raise TransportError(f"an offer of {offer.session} {sequence} holds {found}")
            if not self._inbox.put(transition, len(record)):
                return

    def _read(self, record: bytes) -> tuple[Transition | None, str]:
        """Return the transition of a record; None and the reason for one that is whole and cannot be used."""
        try:
            transition = decode_transition(record)
        except DamagedRecord:
            raise
        except TransportError as error:
            return None, str(error)
        problem = None if self._spec is None else misfit(transition, self._spec)
        return (transition, "") if problem is None else (None, problem)
