"""What an actor's end says and hears, without a socket: the thread behind a link lends it one."""

import logging
import threading
from collections import deque
from collections.abc import Sequence

import msgspec

from serl_core.errors import TransportError
from serl_core.failpoints import failpoint
from serl_core.transport import wire
from serl_core.transport.interface import Hello, LearnerStatus
from serl_core.transport.socket_thread import Send
from serl_core.transport.weights_pull import WeightsPull

logger = logging.getLogger(__name__)

MAX_OUTBOX_BYTES = 8 * 2**20
GREETING_PERIOD_S = 0.5
SEND_AGAIN_S = 0.05


class ActorSide:
    """Greets, offers, pulls weights. Calls may come from several threads.

    Attributes:
        changed: notified with each status and refusal; protects what follows.
        statuses: by session, those that were not polled yet.
        bases: by session, the oldest sequence that is not acknowledged.
        refusal: why the learner does not work with this actor.
        weights_pull: has the newest weights.
    """

    keeps_frames = False  # of weights there are 20 MB, and they are copied where they belong

    def __init__(self, hello: Hello) -> None:
        self.changed = threading.Condition()
        self.statuses: dict[str, LearnerStatus] = {}
        self.bases: dict[str, int] = {}
        self.refusal: str | None = None
        self.weights_pull = WeightsPull()
        self._outbox: deque[list[bytes]] = deque()
        self._outbox_bytes = 0
        self._greeting = wire.encode(wire.Greeting(wire.PROTOCOL, hello.actor_id, hello.session, hello.spec_digest))
        self._greet_at_s = 0.0
        self._announced_version = 0

    @property
    def waiting_bytes(self) -> int:
        """How much waits to be sent."""
        return self._outbox_bytes

    def offer(self, session: str, after: int, first: int, records: Sequence[bytes]) -> bool:
        """Queue an offer, unless there is no room for it."""
        with self.changed:
            base = min(self.bases.setdefault(session, first), first)
            frames = [wire.encode(wire.Offer(session, base, min(after, first - 1), first)), *records]
            size = sum(map(len, frames))
            if self._outbox_bytes + size > MAX_OUTBOX_BYTES:
                return False
            self._outbox.append(frames)
            self._outbox_bytes += size
        return True

    def tick(self, send: Send, now_s: float) -> float:
        """Send what is due. Returns the seconds until there may be more to do."""
        failpoint("link.actor")
        if now_s >= self._greet_at_s and send([self._greeting]):
            self._greet_at_s = now_s + GREETING_PERIOD_S
        while True:
            with self.changed:
                if not self._outbox:
                    break
                frames = self._outbox[0]
            if not send(frames):
                return SEND_AGAIN_S
            with self.changed:
                self._outbox_bytes -= sum(map(len, self._outbox.popleft()))
        self._pull(send, now_s)
        return SEND_AGAIN_S if self.weights_pull.is_decoding else max(self._greet_at_s - now_s, SEND_AGAIN_S)

    def handle(self, frames: Sequence[bytes | memoryview], send: Send, now_s: float) -> bool:
        """Take in one message. Returns False: an actor never cuts the line to its learner."""
        try:
            head, *records = frames
            message = wire.decode_from_learner(bytes(head))
            if isinstance(message, wire.Weights):
                (piece,) = records
                self.weights_pull.take(message, piece)
                self._pull(send, now_s)
                return False
        except (TransportError, ValueError) as error:
            logger.warning("ignored a message of the learner: %s", error)
            return False
        with self.changed:
            if isinstance(message, wire.Status):
                self._note(LearnerStatus(*msgspec.structs.astuple(message)))
            else:
                self.refusal = message.reason
            self.changed.notify_all()
        return False

    def farewell(self, send: Send) -> None:
        """Send last words."""
        self.tick(send, self._greet_at_s - GREETING_PERIOD_S)
        send([wire.encode(wire.Leaving())])
        self.weights_pull.close()

    def _note(self, status: LearnerStatus) -> None:
        self.refusal = None
        self.statuses[status.session] = status
        self._announced_version = status.policy_version
        if status.session in self.bases:
            self.bases[status.session] = max(self.bases[status.session], status.acked_sequence + 1)

    def _pull(self, send: Send, now_s: float) -> None:
        wanted = self.weights_pull.wanted(self._announced_version, now_s)
        if wanted is not None:
            send([wire.encode(wanted)])
