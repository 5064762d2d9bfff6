"""Actor and learner over ZeroMQ: a ROUTER at the learner, a DEALER at each actor, a thread behind each.

The threads do all input and output, so the calls of ActorLink and LearnerLink return at once. The
actor repeats its greeting every half second; the learner answers each with the status of the
actor's sessions, and sends changes in between as they come. Either side may restart at any time.
Whatever cannot be sent now (nobody there, a full queue) is dropped: statuses tell the actor what to
offer again, so memory stays bounded.
"""

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from socket import socketpair
from typing import TypeVar

import zmq

from serl_core.errors import ConfigError, TransportError
from serl_core.transport import wire
from serl_core.transport.codec import (
    MAX_TRANSITION_BYTES,
    MAX_WEIGHTS_BYTES,
    decode_transition,
    decode_weights,
    encode_transition,
    encode_weights,
)
from serl_core.transport.inbox import Inbox, mismatch
from serl_core.transport.interface import Hello, LearnerStatus, PolicyWeights
from serl_core.types import Transition

logger = logging.getLogger(__name__)

MAX_BATCH_BYTES = 2**20
MAX_OUTBOX_BYTES = 8 * 2**20
MAX_ACTORS = 64
GREETING_PERIOD_S = 0.5
PULL_AGAIN_S = 2.0
ACTOR_GONE_S = 3.0  # without a greeting
QUEUE = 16  # messages that ZeroMQ itself may hold per direction
READ_AT_ONCE = 64  # messages, before the other duties of the thread have their turn


class _Thread(ABC):
    """One socket and the thread that owns it. `wake` makes it run `tick` at once."""

    def __init__(self, name: str, kind: int, max_message_bytes: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 300),
            (zmq.MAXMSGSIZE, max_message_bytes),
            (zmq.SNDHWM, QUEUE),
            (zmq.RCVHWM, QUEUE),
            (zmq.HEARTBEAT_IVL, 1000),
            (zmq.HEARTBEAT_TIMEOUT, 3000),
            (zmq.RECONNECT_IVL, 50),
            (zmq.RECONNECT_IVL_MAX, 1000),
        ):
            self._socket.setsockopt(option, value)
        self._wake_in, self._wake_out = socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        with suppress(OSError):  # it is awake already, or gone
            self._wake_in.send(b"\0")

    def close(self) -> None:
        """End the thread and give its socket back. Safe to call twice."""
        self._is_closing.set()
        self.wake()
        if self._thread.ident is None:
            self._release()
        else:
            self._thread.join()

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message if that is possible now."""
        try:
            self._socket.send_multipart(frames, flags=zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    @abstractmethod
    def tick(self) -> float:
        """Send what is due. Returns the seconds until there may be more to do."""

    @abstractmethod
    def handle(self, frames: list[bytes]) -> None:
        """Take in one message."""

    @abstractmethod
    def farewell(self) -> None:
        """Send last words."""

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_out, zmq.POLLIN)
        try:
            while not self._is_closing.is_set():
                wait_s = self.tick()
                for source, _ in poller.poll(math.ceil(1000 * wait_s)):
                    if source is self._socket:
                        self._read()
                    else:
                        self._wake_out.recv(4096)
            self.farewell()
        except Exception as error:
            logger.exception("the thread %s has failed", self._thread.name)
            self.failure = error
        finally:
            self._release()

    def _release(self) -> None:
        if not self._context.closed:
            self._socket.close()
            self._context.term()
            self._wake_in.close()
            self._wake_out.close()

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                frames = self._socket.recv_multipart(flags=zmq.NOBLOCK)
            except zmq.Again:
                return
            self.handle(frames)


@dataclass
class _Peer:
    """An actor, as its learner knows it."""

    session: str
    seen_s: float
    sent: dict[str, LearnerStatus | None] = field(default_factory=dict)  # by session


class _LearnerThread(_Thread):
    def __init__(self, address: str, spec_digest: str, inbox: Inbox) -> None:
        super().__init__("learner-link", zmq.ROUTER, MAX_TRANSITION_BYTES)
        self.peers: dict[bytes, _Peer] = {}
        self.weights_record: tuple[int, bytes] | None = None
        self._spec_digest = spec_digest
        self._inbox = inbox
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise TransportError(
                f"cannot listen on {address}: {error}; stop what runs there or choose another port"
            ) from None
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def tick(self) -> float:
        now_s = time.monotonic()
        self.peers = {key: peer for key, peer in self.peers.items() if now_s - peer.seen_s < ACTOR_GONE_S}
        for identity, peer in self.peers.items():
            for session, sent in list(peer.sent.items()):
                status = self._inbox.status(session)
                if status != sent:
                    self.send([identity, wire.encode(wire.Status(*status))])
                    peer.sent[session] = status
                if session != peer.session and status.acked_sequence >= status.received_sequence:
                    del peer.sent[session]  # an earlier session, now complete
        return GREETING_PERIOD_S

    def handle(self, frames: list[bytes]) -> None:
        try:
            identity, head, *records = frames
            message = wire.decode_from_actor(head)
            if isinstance(message, wire.Greeting):
                self._greet(identity, message)
            elif isinstance(message, wire.Leaving):
                self.peers.pop(identity, None)
            elif identity in self.peers and isinstance(message, wire.Offer):
                self._take(self.peers[identity], message, records)
            elif identity in self.peers and isinstance(message, wire.Pull):
                self._give_weights(identity, message)
        except (TransportError, ValueError) as error:
            total = self._inbox.count("rejected")
            if total & (total - 1) == 0:  # the 1st, 2nd, 4th, ...: a flood must not fill the log
                logger.warning("rejected a message, %d so far: %s", total, error)

    def farewell(self) -> None:
        self.tick()

    def _greet(self, identity: bytes, greeting: wire.Greeting) -> None:
        reason = None
        if greeting.protocol != wire.PROTOCOL:
            reason = f"the actor speaks protocol {greeting.protocol}, the learner {wire.PROTOCOL}: update the older one"
        elif greeting.spec_digest != self._spec_digest:
            reason = mismatch(greeting.spec_digest, self._spec_digest)
        elif identity not in self.peers and len(self.peers) >= MAX_ACTORS:
            reason = f"{MAX_ACTORS} actors are connected already; that is the most"
        if reason is not None:
            self.peers.pop(identity, None)
            self.send([identity, wire.encode(wire.Refusal(reason))])
            return
        peer = self.peers.setdefault(identity, _Peer(greeting.session, 0.0))
        peer.session = greeting.session
        peer.seen_s = time.monotonic()
        peer.sent = dict.fromkeys([greeting.session, *peer.sent])  # answer with everything, sent before or not

    def _give_weights(self, identity: bytes, pull: wire.Pull) -> None:
        if self.weights_record is not None:
            version, record = self.weights_record
            if version > pull.than_version:
                self.send([identity, wire.encode(wire.Weights()), record])

    def _take(self, peer: _Peer, offer: wire.Offer, records: list[bytes]) -> None:
        peer.sent.setdefault(offer.session, None)
        expected = self._inbox.begin(offer.session, offer.base)
        repeated = min(max(expected - offer.first, 0), len(records))
        self._inbox.count("duplicate", repeated)
        for sequence, record in enumerate(records[repeated:], offer.first + repeated):
            transition = decode_transition(record)
            found = transition.provenance
            if found is None or (found.session, found.sequence) != (offer.session, sequence):
                raise TransportError(f"an offer of {offer.session} {sequence} holds {found}")
            if not self._inbox.put(transition, len(record)):
                return


class ZmqLearnerLink:
    """A LearnerLink that listens on a TCP port.

    Args:
        spec_digest: of the task; actors of another are refused.
        host: a loopback address unless `allow_lan`, because whoever reaches the port can feed the learner.
        port: 0 takes a free one; `address` tells which.
        allow_lan: listen on other addresses as well.
    """

    def __init__(self, spec_digest: str, *, host: str = "127.0.0.1", port: int = 0, allow_lan: bool = False) -> None:
        if not allow_lan and not ip_address(host).is_loopback:
            raise ConfigError(f"host: {host} is not a loopback address; pass allow_lan to listen to the network")
        self._wanted = f"tcp://{host}:{port or '*'}"
        self._spec_digest = spec_digest
        self._inbox = Inbox()
        self._thread: _LearnerThread | None = None

    def open(self) -> "ZmqLearnerLink":
        """Listen; no effect while it listens already. Raises TransportError when the port is taken."""
        if self._thread is None:
            self._thread = _LearnerThread(self._wanted, self._spec_digest, self._inbox)
            self._thread.start()
        return self

    @property
    def address(self) -> str:
        """Where actors connect to, such as ``tcp://127.0.0.1:5555``."""
        return self._running().address

    def receive(self, timeout_s: float) -> Sequence[Transition]:
        """See LearnerLink. Raises TransportError when the thread behind has failed."""
        self._running()
        return self._inbox.take(timeout_s)

    def acknowledge(self, session: str, sequence: int) -> None:
        """See LearnerLink."""
        self._inbox.acknowledge(session, sequence)
        self._running().wake()

    def restore(self, acked: Mapping[str, int]) -> None:
        """See LearnerLink. May be called before `open`, which keeps out what is on disk already."""
        self._inbox.restore(acked)

    def report(self, env_steps: int, trained_env_steps: int, is_finished: bool = False) -> None:
        """See LearnerLink."""
        self._inbox.report(env_steps, trained_env_steps, is_finished)
        self._running().wake()

    def publish(self, weights: PolicyWeights) -> None:
        """See LearnerLink. Copies the arrays. Raises TransportError when a number in them is not finite."""
        self._running().weights_record = (weights.version, encode_weights(weights))
        self._inbox.publish(weights.version)
        self._running().wake()

    def counters(self) -> Mapping[str, int]:
        """See LearnerLink."""
        return {**self._inbox.counters(), "connected": len(self._thread.peers) if self._thread else 0}

    def close(self) -> None:
        """See LearnerLink. Sends the last statuses first."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def __enter__(self) -> "ZmqLearnerLink":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> _LearnerThread:
        return _checked(self._thread, "open")


class _ActorThread(_Thread):
    def __init__(self, address: str, hello: Hello) -> None:
        super().__init__("actor-link", zmq.DEALER, MAX_WEIGHTS_BYTES)
        self.changed = threading.Condition()
        self.statuses: dict[str, LearnerStatus] = {}  # not polled yet, by session
        self.bases: dict[str, int] = {}  # the oldest unacknowledged sequence, by session
        self.refusal: str | None = None
        self.weights: PolicyWeights | None = None
        self._outbox: deque[list[bytes]] = deque()
        self._outbox_bytes = 0
        self._greeting = wire.encode(wire.Greeting(wire.PROTOCOL, hello.actor_id, hello.session, hello.spec_digest))
        self._greet_at_s = 0.0
        self._announced_version = 0
        self._pull_at_s = 0.0
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing piles up for a learner that is not there
        try:
            self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise TransportError(f"learner address {address!r}: {error}; give one like tcp://127.0.0.1:5555") from None

    def tick(self) -> float:
        now_s = time.monotonic()
        if now_s >= self._greet_at_s and self.send([self._greeting]):
            self._greet_at_s = now_s + GREETING_PERIOD_S
        while True:
            with self.changed:
                if not self._outbox:
                    break
                frames = self._outbox[0]
            if not self.send(frames):
                return 0.05
            with self.changed:
                self._outbox_bytes -= sum(map(len, self._outbox.popleft()))
        if self._announced_version > self._held_version() and now_s >= self._pull_at_s:
            self.send([wire.encode(wire.Pull(self._held_version()))])
            self._pull_at_s = now_s + PULL_AGAIN_S
        return max(self._greet_at_s - now_s, 0.05)

    def handle(self, frames: list[bytes]) -> None:
        try:
            head, *records = frames
            message = wire.decode_from_learner(head)
            if isinstance(message, wire.Weights):
                (record,) = records
                self._adopt(decode_weights(record))
                return
        except (TransportError, ValueError) as error:
            logger.warning("ignored a message of the learner: %s", error)
            return
        with self.changed:
            if isinstance(message, wire.Status):
                status = LearnerStatus(*(getattr(message, name) for name in LearnerStatus._fields))
                self.refusal = None
                self.statuses[status.session] = status
                self._announced_version = status.policy_version
                if status.session in self.bases:
                    self.bases[status.session] = max(self.bases[status.session], status.acked_sequence + 1)
            else:
                self.refusal = message.reason
            self.changed.notify_all()

    def farewell(self) -> None:
        self.tick()
        self.send([wire.encode(wire.Leaving())])

    def put(self, frames: list[bytes]) -> bool:
        """Queue a message, unless the queue is full."""
        size = sum(map(len, frames))
        with self.changed:
            if self._outbox_bytes + size > MAX_OUTBOX_BYTES:
                return False
            self._outbox.append(frames)
            self._outbox_bytes += size
        return True

    def _adopt(self, weights: PolicyWeights) -> None:
        if weights.version > self._held_version():
            self.weights = weights
            self._pull_at_s = 0.0

    def _held_version(self) -> int:
        return self.weights.version if self.weights is not None else 0


class ZmqActorLink:
    """An ActorLink to the learner at `address`, such as ``tcp://127.0.0.1:5555``."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._thread: _ActorThread | None = None

    def connect(self, hello: Hello, timeout_s: float) -> LearnerStatus:
        """See ActorLink."""
        self.close()
        self._thread = thread = _ActorThread(self._address, hello)
        thread.start()
        with thread.changed:
            thread.changed.wait_for(lambda: thread.statuses or thread.refusal, timeout_s)
            refusal, status = thread.refusal, thread.statuses.pop(hello.session, None)
        if status is None:
            self.close()
            raise TransportError(
                f"the learner at {self._address} refuses this actor: {refusal}"
                if refusal
                else f"no learner answers at {self._address} within {timeout_s:g} s: start one with `serl learner`"
            )
        return status

    def offer(self, transitions: Sequence[Transition]) -> None:
        """See ActorLink."""
        thread = self._accepted()
        for session, first, records in _batches(transitions):
            with thread.changed:
                base = thread.bases.setdefault(session, first)
            if not thread.put([wire.encode(wire.Offer(session, min(base, first), first)), *records]):
                break
        thread.wake()

    def poll(self, timeout_s: float = 0.0) -> LearnerStatus | None:
        """See ActorLink."""
        thread = self._accepted()
        with thread.changed:
            thread.changed.wait_for(lambda: thread.statuses or thread.refusal, timeout_s)
            if not thread.statuses:
                return None
            return thread.statuses.pop(next(iter(thread.statuses)))

    def newest_weights(self, than_version: int) -> PolicyWeights | None:
        """See ActorLink. The thread pulls whatever is newer than what it has."""
        weights = _checked(self._thread, "connect").weights
        return weights if weights is not None and weights.version > than_version else None

    def close(self) -> None:
        """See ActorLink."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def _accepted(self) -> _ActorThread:
        thread = _checked(self._thread, "connect")
        if thread.refusal is not None:
            raise TransportError(f"the learner at {self._address} refuses this actor: {thread.refusal}")
        return thread


_T = TypeVar("_T", bound=_Thread)


def _checked(thread: _T | None, call: str) -> _T:
    if thread is None:
        raise TransportError(f"this link is closed: call `{call}` first")
    if thread.failure is not None:
        raise TransportError(f"the link has failed: {thread.failure}") from thread.failure
    return thread


def _batches(transitions: Sequence[Transition]) -> Iterator[tuple[str, int, list[bytes]]]:
    """Yield (session, first sequence, records) of consecutive transitions, each within MAX_BATCH_BYTES."""
    session, first, records, size = "", 0, list[bytes](), 0
    for transition in transitions:
        record = encode_transition(transition)
        assert transition.provenance is not None  # else it has no record
        found = transition.provenance
        follows = found.session == session and found.sequence == first + len(records)
        if records and not (follows and size + len(record) <= MAX_BATCH_BYTES):
            yield session, first, records
            records, size = [], 0
        if not records:
            session, first = found.session, found.sequence
        records.append(record)
        size += len(record)
    if records:
        yield session, first, records
