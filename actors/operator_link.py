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
from pathlib import Path
from typing import Self

import zmq

from actors.operator_address import write_address
from actors.operator_mail import REPEAT_S, OperatorMail
from serl_core.clock import Clock
from serl_core.errors import DataError, TransportError
from serl_core.operator.messages import (
    MAX_MESSAGE_BYTES,
    FromActor,
    OperatorAddress,
    OperatorHello,
    ToActor,
    decode_from_console,
    encode,
)

logger = logging.getLogger(__name__)

TOKEN_BYTES = 32
QUEUE = 16  # messages that ZeroMQ may hold per direction
READ_AT_ONCE = 64
MAX_CONSOLES = 4
IDLE_S, BUSY_S = 0.05, 0.01  # between looks at what waits; the latter while there is a console
FAREWELL_S = 1.0  # for consoles to hear the last words: what they have not read when the line closes is lost to them

Receive = Callable[[ToActor, float], Iterable[FromActor]]
"""Takes in a message with its time of arrival on this machine's monotonic clock; returns the answers to its sender."""


class OperatorLink:
    """One actor's link. Open it as a context manager.

    Args:
        path: of the file for consoles; made when it opens and removed when it closes.
        receive: called on the link's thread for each message; it must not block.
        robot: URL of the robot server that the actor commands, for consoles that stop it.
        server: which start of that robot server, as in `Health`.
    """

    def __init__(
        self,
        path: Path,
        receive: Receive,
        *,
        robot: str | None = None,
        server: str | None = None,
        now: Clock = time.monotonic,
    ) -> None:
        self._path = path
        self._robot, self._server = robot, server
        self._receive = receive
        self._now = now
        self._token = secrets.token_hex(TOKEN_BYTES)
        self._mail = OperatorMail()
        self._counts = {"received": 0, "rejected": 0, "sent": 0}
        self._is_closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_watched(self) -> bool:
        """Whether a console is connected."""
        return self._mail.is_watched

    def counters(self) -> dict[str, int]:
        """Return how many messages were received, rejected, sent and dropped so far."""
        return {**self._counts, "dropped": self._mail.dropped}

    def tell(self, message: FromActor) -> None:
        """Send a message to all consoles soon; never blocks. Nothing happens while there is none."""
        self._mail.tell(message)  # the thread looks soon; waking it here would cost the control loop time

    def __enter__(self) -> Self:
        """Listen, and write the file.

        Raises:
            DataError: the file cannot be written.
        """
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in (  # no HEARTBEAT_IVL: see serl_core.transport.socket_thread
            (zmq.LINGER, 300),
            (zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES),
            (zmq.SNDHWM, QUEUE),
            (zmq.RCVHWM, QUEUE),
            (zmq.ROUTER_MANDATORY, 1),  # a console that is gone is told by the send
        ):
            self._socket.setsockopt(option, value)
        self._socket.bind("tcp://127.0.0.1:0")
        address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        try:
            found = OperatorAddress(address=address, token=self._token, robot=self._robot, server=self._server)
            write_address(self._path, found)
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

    def _release(self) -> None:
        self._socket.close()
        self._context.term()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        try:
            while not self._is_closing.is_set():
                if poller.poll(round(1000 * (BUSY_S if self._mail.is_watched else IDLE_S))):
                    self._read()
                self._send_waiting()
            self._part()
        finally:  # a defect ends the program (`serl_core.threads`): nobody moves an arm that its operators have lost
            self._mail.close()
            self._release()

    def _part(self) -> None:
        """Say what is left and remove the file: consoles that miss it read to the end and hang up."""
        until_s = time.monotonic() + FAREWELL_S
        self._send_waiting()
        self._path.unlink(missing_ok=True)
        while self._mail.is_watched and time.monotonic() < until_s:
            time.sleep(BUSY_S)
            self._send_waiting(repeat_s=IDLE_S)  # a send tells whether a console is still there

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
        elif console not in self._mail:
            self._reject("it has not said hello")
        else:
            self._counts["received"] += 1
            self._mail.heard(console, now_s)
            for answer in self._receive(message, now_s):
                self._mail.answer(console, answer)

    def _greet(self, console: bytes, hello: OperatorHello, now_s: float) -> None:
        if not hmac.compare_digest(hello.token.encode(), self._token.encode()):
            self._reject("a wrong token")
        elif console in self._mail:
            self._mail.heard(console, now_s)
        elif len(self._mail) >= MAX_CONSOLES:
            self._reject(f"{MAX_CONSOLES} consoles are connected already")
        else:
            self._mail.add(console, now_s)

    def _send_waiting(self, repeat_s: float = REPEAT_S) -> None:
        for console, waiting in self._mail.distribute(self._now(), repeat_s):
            if not self._send(console, waiting):
                self._mail.forget(console)

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
                self._mail.dropped += 1
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
