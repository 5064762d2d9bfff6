"""Actor and learner over ZeroMQ: a ROUTER at the learner, a DEALER at each actor, a thread behind each.

The threads do all input and output, so the calls of ActorLink and LearnerLink return at once. The
actor repeats its greeting every half second; the learner answers each with the status of the
actor's sessions. In between it tells what an actor waits for as it comes, and progress now and then.
Either side may restart at any time.
Whatever cannot be sent now (nobody there, a full queue) is dropped: statuses tell the actor what to
offer again, so memory stays bounded.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import groupby
from pathlib import Path

import zmq

from serl_core.errors import ConfigError, TransportError
from serl_core.exposure import check_port
from serl_core.transport.actor_side import ActorSide
from serl_core.transport.codec import MAX_TRANSITION_BYTES, encode_transition, encode_weights
from serl_core.transport.doorkeeper import Doorkeeper
from serl_core.transport.inbox import Inbox
from serl_core.transport.interface import Hello, LearnerStatus, PolicyWeights
from serl_core.transport.keys import load_actor_keys
from serl_core.transport.learner_side import LearnerSide
from serl_core.transport.socket_thread import Send, SocketThread
from serl_core.types import EnvSpec, Transition

logger = logging.getLogger(__name__)

MAX_BATCH_BYTES = 2**18  # of several transitions; a message counts once it is whole, and a slow line takes a second
BANNER_PERIOD_S = 60.0


class ZmqLearnerLink:
    """A LearnerLink that listens on a TCP port.

    Args:
        spec_digest: of the task; actors of another are refused.
        host: a loopback address, unless there are `keys`, or `insecure_lan`.
        port: 0 takes a free one; `address` tells which.
        keys: folder of `serl keys`: only actors with one of these keys get through, encrypted.
        insecure_lan: listen to the network without keys: whoever reaches the port can read what is sent, and feed
            the learner. Says so each minute.
        spec: of what transitions hold: one that does not fit is refused with the reason, and stays with its actor.
    """

    def __init__(
        self,
        spec_digest: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: Path | None = None,
        insecure_lan: bool = False,
        spec: EnvSpec | None = None,
    ) -> None:
        self._is_exposed = keys is None and not _is_loopback(host)
        if self._is_exposed and not insecure_lan:
            raise ConfigError(
                f"host: {host} is not a loopback address: make keys by `serl keys init` and give --keys, or allow "
                "strangers to read and feed the learner with --insecure-lan"
            )
        check_port("--port", port)
        self._wanted = f"tcp://{host}:{port or '*'}"
        self._keys = keys
        self._inbox = Inbox()
        self._side = LearnerSide(spec_digest, self._inbox, spec)
        self._doorkeeper: Doorkeeper | None = None
        self._thread: SocketThread | None = None
        self._address = ""

    def open(self) -> "ZmqLearnerLink":
        """Listen; no effect while it listens already.

        Raises:
            TransportError: the port is taken.
            ConfigError: the keys cannot be read.
        """
        if self._thread is not None:
            return self
        self._doorkeeper = Doorkeeper(self._keys) if self._keys is not None else None
        side = _Banner(self._side, self._wanted) if self._is_exposed else self._side
        thread = SocketThread("learner-link", zmq.ROUTER, MAX_TRANSITION_BYTES, side, self._doorkeeper)
        try:
            if self._doorkeeper is not None:
                self._doorkeeper.guard(thread.socket)
            thread.socket.bind(self._wanted)
        except zmq.ZMQError as error:
            thread.close()
            raise TransportError(
                f"cannot listen on {self._wanted}: {error}; stop what runs there, choose another port, or an address "
                "of this machine"
            ) from None
        self._address = thread.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = thread
        thread.start()
        return self

    @property
    def address(self) -> str:
        """Where actors connect to, such as ``tcp://127.0.0.1:5555``."""
        self._running()
        return self._address

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
        thread = self._running()
        if is_finished:  # the thread looks often enough for the rest
            thread.wake()

    def publish(self, weights: PolicyWeights) -> None:
        """See LearnerLink. Copies the arrays. Raises TransportError when a number in them is not finite."""
        thread = self._running()
        self._side.weights_record = (weights.version, encode_weights(weights))
        self._inbox.publish(weights.version)
        thread.wake()

    def counters(self) -> Mapping[str, int]:
        """See LearnerLink. With keys also `denied`: connections that were turned away."""
        denied = {"denied": self._doorkeeper.denied} if self._doorkeeper is not None else {}
        connected = len(self._side.peers) if self._thread is not None else 0
        return {**self._inbox.counters(), "connected": connected, **denied}

    def close(self) -> None:
        """See LearnerLink. Sends the last statuses first."""
        if self._thread is not None:
            self._thread.close()
            self._thread = None

    def __enter__(self) -> "ZmqLearnerLink":
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _running(self) -> SocketThread:
        if self._thread is None:
            raise TransportError("this link is closed: call `open` first")
        self._thread.check()
        return self._thread


class ZmqActorLink:
    """An ActorLink to the learner.

    Args:
        address: such as ``tcp://127.0.0.1:5555``.
        keys: the file that `serl keys` made for this actor, for a learner with keys.
    """

    def __init__(self, address: str, keys: Path | None = None) -> None:
        self._address = address
        self._keys = keys
        self._link: tuple[ActorSide, SocketThread] | None = None

    def connect(self, hello: Hello, timeout_s: float) -> LearnerStatus:
        """See ActorLink. Raises ConfigError when the keys cannot be read."""
        self.close()
        side = ActorSide(hello)
        thread = SocketThread("actor-link", zmq.DEALER, MAX_TRANSITION_BYTES, side)
        try:
            self._prepare(thread.socket)
            thread.connect(self._address)
        except ConfigError:
            thread.close()
            raise
        except zmq.ZMQError as error:
            thread.close()
            raise TransportError(
                f"learner address {self._address!r}: {error}; give one like tcp://127.0.0.1:5555"
            ) from None
        self._link = side, thread
        thread.start()
        with side.changed:
            side.changed.wait_for(lambda: side.statuses or side.refusal, timeout_s)
            refusal, status = side.refusal, side.statuses.pop(hello.session, None)
        if status is None:
            self.close()
            raise TransportError(
                f"the learner at {self._address} refuses this actor: {refusal}"
                if refusal
                else f"no learner answers at {self._address} within {timeout_s:g} s: start one with `serl learner`"
                + (", or one that admits the key in " + str(self._keys) if self._keys is not None else "")
            )
        return status

    def offer(self, transitions: Sequence[Transition], *, after: int | None = None) -> None:
        """See ActorLink."""
        self._accepted()
        for session, group in groupby(transitions, key=_session):
            records = [(_number(transition), encode_transition(transition)) for transition in group]
            self.offer_records(session, records, after=records[0][0] - 1 if after is None else after)

    def offer_records(self, session: str, records: Sequence[tuple[int, bytes]], *, after: int) -> None:
        """See ActorLink."""
        side, thread = self._accepted()
        for before, first, batch in batches(records, after):
            if not side.offer(session, before, first, batch):
                break
        thread.wake()

    def poll(self, timeout_s: float = 0.0) -> LearnerStatus | None:
        """See ActorLink."""
        side, _ = self._accepted()
        with side.changed:
            if timeout_s > 0:
                side.changed.wait_for(lambda: side.statuses or side.refusal, timeout_s)
            if not side.statuses:
                return None
            return side.statuses.pop(next(iter(side.statuses)))

    def newest_weights(self, than_version: int) -> PolicyWeights | None:
        """See ActorLink. The thread pulls whatever is newer than what it has."""
        weights = self._open()[0].weights_pull.weights
        return weights if weights is not None and weights.version > than_version else None

    @property
    def waiting_bytes(self) -> int:
        """How much waits for a line that is too slow, or not there; what is more is dropped."""
        return self._open()[0].waiting_bytes

    def close(self) -> None:
        """See ActorLink."""
        if self._link is not None:
            self._link[1].close()
            self._link = None

    def _prepare(self, socket: "zmq.Socket[bytes]") -> None:
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing piles up for a learner that is not there
        if self._keys is not None:
            keys = load_actor_keys(self._keys)
            socket.curve_serverkey = keys.learner_public.encode()
            socket.curve_publickey = keys.public.encode()
            socket.curve_secretkey = keys.secret.encode()

    def _open(self) -> tuple[ActorSide, SocketThread]:
        if self._link is None:
            raise TransportError("this link is closed: call `connect` first")
        self._link[1].check()
        return self._link

    def _accepted(self) -> tuple[ActorSide, SocketThread]:
        side, thread = self._open()
        if side.refusal is not None:
            raise TransportError(f"the learner at {self._address} refuses this actor: {side.refusal}")
        return side, thread


class _Banner:
    """A learner's side that says each minute that strangers may listen."""

    def __init__(self, side: LearnerSide, address: str) -> None:
        self.keeps_frames = side.keeps_frames
        self.handle = side.handle
        self.farewell = side.farewell
        self._side = side
        self._address = address
        self._next_s = time.monotonic()

    def tick(self, send: Send, now_s: float) -> float:
        """Do what the side does, and speak up."""
        if now_s >= self._next_s:
            logger.warning("%s is open to the network, unencrypted: anyone there can feed this learner", self._address)
            self._next_s = now_s + BANNER_PERIOD_S
        return self._side.tick(send, now_s)


def batches(records: Sequence[tuple[int, bytes]], after: int) -> Iterator[tuple[int, int, list[bytes]]]:
    """Yield (number before, first number, records) of consecutive transitions, each within MAX_BATCH_BYTES.

    Args:
        records: of one session, each with its number.
        after: see `ActorLink.offer`.
    """
    before, batch, size = after, list[bytes](), 0
    first = last = after
    for number, record in records:
        if batch and (number != last + 1 or size + len(record) > MAX_BATCH_BYTES):
            yield before, first, batch
            before, batch, size = last, [], 0
        if not batch:
            first = number
        batch.append(record)
        size += len(record)
        last = number
    if batch:
        yield before, first, batch


def _session(transition: Transition) -> str:
    return transition.provenance.session if transition.provenance is not None else ""


def _number(transition: Transition) -> int:
    return transition.provenance.sequence if transition.provenance is not None else -1


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(f"host: {host!r} is no IP address; give one of this machine's, such as 127.0.0.1") from None
