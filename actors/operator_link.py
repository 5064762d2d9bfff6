"""The actor's end of the operator link: a ROUTER on loopback that consoles of this machine find by a file.

A thread of its own does all input and output. `tell` only puts into a queue, so nothing here can hold up a control
step: what a console does not take in time is dropped, the oldest first.
"""

import hmac
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import zmq

from actors.operator_address import write_address
from serl_core.clock import Clock
from serl_core.errors import DataError, TransportError
from serl_core.operator.messages import (
    MAX_MESSAGE_BYTES,
    FromActor,
    OperatorAddress,
    OperatorHello,
    RecordProgress,
    StepReport,
    ToActor,
    decode_from_console,
    encode,
)

logger = logging.getLogger(__name__)

TOKEN_BYTES = 32
GONE_S = 3.0  # without a word from a console; it repeats its hello each second
REPEAT_S = 1.0  # of the last report, so that consoles hear something during a long reset
WAITING = 64  # messages, for all consoles and for each
QUEUE = 16  # messages that ZeroMQ may hold per direction
READ_AT_ONCE = 64
MAX_CONSOLES = 4
IDLE_S, BUSY_S = 0.05, 0.01  # between looks at what waits; the latter while there is a console

Receive = Callable[[ToActor, float], Iterable[FromActor]]
"""Takes in a message with its time of arrival on this machine's monotonic clock; returns the answers to its sender."""


@dataclass
class _Console:
    heard_s: float
    waiting: deque[FromActor] = field(default_factory=lambda: deque(maxlen=WAITING))


class OperatorLink:
    """One actor's link. Open it as a context manager.

    Args:
        path: of the file for consoles; made when it opens and removed when it closes.
        receive: called on the link's thread for each message; it must not block.
    """

    def __init__(self, path: Path, receive: Receive, *, now: Clock = time.monotonic) -> None:
        self._path = path
        self._receive = receive
        self._now = now
        self._token = secrets.token_hex(TOKEN_BYTES)
        self._consoles: dict[bytes, _Console] = {}  # by routing id; replaced, never changed, when one comes or goes
        self._waiting: deque[FromActor] = deque(maxlen=WAITING)
        self._newest: dict[type[FromActor], FromActor] = {}  # of what a console that comes later must know
        self._told_s = 0.0
        self._counts = {"received": 0, "rejected": 0, "sent": 0, "dropped": 0}
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_watched(self) -> bool:
        """Whether a console is connected."""
        return bool(self._consoles)

    def counters(self) -> dict[str, int]:
        """Return how many messages were received, rejected, sent and dropped so far."""
        return dict(self._counts)

    def tell(self, message: FromActor) -> None:
        """Send a message to all consoles soon; never blocks. Nothing happens while there is none."""
        if isinstance(message, StepReport | RecordProgress):
            self._newest[type(message)] = message
        if not self.is_watched:
            return
        self._put(self._waiting, message)  # the thread looks soon; waking it here would cost the control loop time

    def __enter__(self) -> Self:
        """Listen, and write the file.

        Raises:
            DataError: the file cannot be written.
        """
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in (
            (zmq.LINGER, 300),
            (zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES),
            (zmq.SNDHWM, QUEUE),
            (zmq.RCVHWM, QUEUE),
            (zmq.ROUTER_MANDATORY, 1),  # a console that is gone is told by the send
            (zmq.HEARTBEAT_IVL, 1000),
            (zmq.HEARTBEAT_TIMEOUT, 3000),
        ):
            self._socket.setsockopt(option, value)
        self._socket.bind("tcp://127.0.0.1:0")
        address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        try:
            write_address(self._path, OperatorAddress(address=address, token=self._token))
        except DataError:
            self._release()
            raise
        self._is_closing.clear()
        self._thread = threading.Thread(target=self._run, name="operator-link", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closing.set()
        assert self._thread is not None, "it was never opened"
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _release(self) -> None:
        self._socket.close()
        self._context.term()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        try:
            while not self._is_closing.is_set():
                if poller.poll(round(1000 * (BUSY_S if self._consoles else IDLE_S))):
                    self._read()
                self._send_waiting()
            self._send_waiting()
        except Exception:  # the arm's loop must not end with its onlookers
            logger.exception("the operator link has failed; the console hears no more of this actor")
        finally:
            self._consoles = {}
            self._release()

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                console, *frames = self._socket.recv_multipart(flags=zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                (frame,) = frames
                self._take(console, decode_from_console(frame))
            except (TransportError, ValueError) as error:
                self._reject(str(error))

    def _take(self, console: bytes, message: ToActor) -> None:
        now_s = self._now()
        if isinstance(message, OperatorHello):
            self._greet(console, message, now_s)
        elif console not in self._consoles:
            self._reject("it has not said hello")
        else:
            self._counts["received"] += 1
            self._consoles[console].heard_s = now_s
            for answer in self._receive(message, now_s):
                self._put(self._consoles[console].waiting, answer)

    def _greet(self, console: bytes, hello: OperatorHello, now_s: float) -> None:
        if not hmac.compare_digest(hello.token.encode(), self._token.encode()):
            self._reject("a wrong token")
        elif console in self._consoles:
            self._consoles[console].heard_s = now_s
        elif len(self._consoles) >= MAX_CONSOLES:
            self._reject(f"{MAX_CONSOLES} consoles are connected already")
        else:
            waiting = deque(self._newest.values(), WAITING)
            self._consoles = self._consoles | {console: _Console(now_s, waiting)}

    def _send_waiting(self) -> None:
        now_s = self._now()
        self._consoles = {name: console for name, console in self._consoles.items() if now_s - console.heard_s < GONE_S}
        messages = []
        while self._waiting:
            messages.append(self._waiting.popleft())
        report = self._newest.get(StepReport)
        if not messages and report is not None and now_s - self._told_s >= REPEAT_S:
            messages = [report]
        if messages:
            self._told_s = now_s
        for name, console in self._consoles.items():
            for message in messages:
                self._put(console.waiting, message)
            if not self._send(name, console.waiting):
                self._consoles = {other: kept for other, kept in self._consoles.items() if other != name}

    def _put(self, waiting: deque[FromActor], message: FromActor) -> None:
        if len(waiting) == WAITING:
            self._counts["dropped"] += 1
        waiting.append(message)

    def _send(self, name: bytes, waiting: deque[FromActor]) -> bool:
        """Send as much as goes now; return False if the console is gone."""
        while waiting:
            try:
                self._socket.send_multipart([name, encode(waiting[0])], flags=zmq.NOBLOCK)
                self._counts["sent"] += 1
            except zmq.Again:
                return True
            except TransportError as error:
                logger.warning("operator link: %s", error)
                self._counts["dropped"] += 1
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                return False
            waiting.popleft()
        return True

    def _reject(self, reason: str) -> None:
        self._counts["rejected"] += 1
        total = self._counts["rejected"]
        if total & (total - 1) == 0:  # the 1st, 2nd, 4th, ...: a flood must not fill the log
            logger.warning("operator link: rejected a message, %d so far: %s", total, reason)
