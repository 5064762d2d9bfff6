"""One ZeroMQ socket and the thread that owns it: all input and output of a link happens here."""

import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

import zmq

from serl_core.errors import TransportError
from serl_core.scheduling import LAST_PRIORITY, go_behind
from serl_core.transport.doorkeeper import Doorkeeper

logger = logging.getLogger(__name__)

Send = Callable[[Sequence[bytes | memoryview]], bool]
"""Sends a message if that is possible now, and returns whether it was."""

QUEUE = 16  # messages that ZeroMQ itself may hold per direction
READ_AT_ONCE = 64  # messages, before the other duties of the thread have their turn
MAX_UNCUT = 1024
SILENCE_S = 3.0  # of a learner that answers a greeting each half second
OPTIONS = {
    zmq.LINGER: 300,  # ms, as all times here but the keep-alive's
    zmq.SNDHWM: QUEUE,
    zmq.RCVHWM: QUEUE,
    zmq.HANDSHAKE_IVL: 2000,
    zmq.CONNECT_TIMEOUT: 1000,  # else the kernel tries a machine that is off ever more rarely
    zmq.RECONNECT_IVL: 50,
    zmq.RECONNECT_IVL_MAX: 1000,
    # A machine that is off is the kernel's to find: ZeroMQ's own heartbeat (HEARTBEAT_IVL) ends the process when a
    # connection breaks while it holds messages that nobody has read (4.3.5: "Assertion failed: !_io_error").
    zmq.TCP_MAXRT: 3000,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 3,  # s
    zmq.TCP_KEEPALIVE_INTVL: 1,  # s
    zmq.TCP_KEEPALIVE_CNT: 3,
}


@runtime_checkable  # the type checks under pytest ask for it
class Side(Protocol):
    """What is said and heard at one end. All calls come from the thread.

    Attributes:
        keeps_frames: it keeps what it hears as it is: frames come as bytes. Else those behind the first are views.
    """

    keeps_frames: bool

    def tick(self, send: Send, now_s: float) -> float:
        """Send what is due. Returns the seconds until there may be more to do."""

    def handle(self, frames: Sequence[bytes | memoryview], send: Send, now_s: float) -> bool:
        """Take in one message. Returns whether the connection that it came by is to be cut."""

    def farewell(self, send: Send) -> None:
        """Send last words."""


class SocketThread:
    """Runs a side on a socket of its own. `wake` makes it tick at once.

    Args:
        name: of the thread.
        kind: of the socket.
        max_message_bytes: of a frame; a connection that sends a larger one is cut before there is memory for it.
        side: what to run.
        doorkeeper: decides who may connect; None lets everybody in.
    """

    def __init__(
        self, name: str, kind: int, max_message_bytes: int, side: Side, doorkeeper: Doorkeeper | None = None
    ) -> None:
        self._context = zmq.Context()
        if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_FIFO:
            self._context.set(zmq.THREAD_SCHED_POLICY, os.SCHED_FIFO)
            self._context.set(zmq.THREAD_PRIORITY, LAST_PRIORITY)  # they copy all that comes: no step waits
        self._door = doorkeeper.open(self._context) if doorkeeper is not None else None
        self._doorkeeper = doorkeeper
        self.socket = self._context.socket(kind)
        for option, value in {**OPTIONS, zmq.MAXMSGSIZE: max_message_bytes}.items():
            self.socket.setsockopt(option, value)
        self._side = side
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._is_woken = False
        self._uncut: dict[bytes, None] = {}  # connections that are to be cut, oldest first
        self._server = ""  # that it is connected to
        self._heard_s = 0.0
        self._is_redialling = False
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.failure: Exception | None = None

    def connect(self, address: str) -> None:
        """Connect, and connect anew whenever nothing has come for SILENCE_S. Call it before `start`."""
        self.socket.connect(address)
        self._server, self._heard_s = address, time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Let the side send what is due."""
        if not self._is_woken:
            self._is_woken = True
            with suppress(OSError):  # it is gone
                self._wake_in.send(b"\0")

    def close(self) -> None:
        """End the thread and give its socket back. Safe to call twice."""
        self._is_closing.set()
        self.wake()
        if self._thread.ident is None:
            self._release()
        else:
            self._thread.join()

    def check(self) -> None:
        """Raise TransportError when the thread has failed."""
        if self.failure is not None:
            raise TransportError(f"the link has failed: {self.failure}") from self.failure

    def _send(self, frames: Sequence[bytes | memoryview]) -> bool:
        try:
            self.socket.send_multipart(frames, flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def _run(self) -> None:
        go_behind()
        poller = zmq.Poller()
        for source in (self.socket, self._wake_out, self._door):
            if source is not None:
                poller.register(source, zmq.POLLIN)
        try:
            while not self._is_closing.is_set():
                wait_s = self._side.tick(self._send, time.monotonic())
                for source, _ in poller.poll(math.ceil(1000 * wait_s)):
                    if source is self.socket:
                        self._read()
                    elif source is self._door and self._doorkeeper is not None:
                        self._doorkeeper.answer()
                    else:
                        self._wake_out.recv(4096)
                        self._is_woken = False  # what is said from now on may be too late for the next tick
                if self._server and time.monotonic() - self._heard_s > SILENCE_S:
                    self._redial()
            self._side.farewell(self._send)
        except Exception as error:  # whatever it was, the link's user is told by `check`
            logger.exception("the thread %s has failed", self._thread.name)
            self.failure = error
        finally:
            self._release()

    def _redial(self) -> None:
        """End a connection that may be dead at the other end only, and begin another."""
        if not self._is_redialling:
            logger.warning("no word from %s for %g s: connecting anew until there is one", self._server, SILENCE_S)
            self._is_redialling = True
        with suppress(zmq.ZMQError):  # it has ended by itself
            self.socket.disconnect(self._server)
        self.connect(self._server)

    def _release(self) -> None:
        if not self._context.closed:
            self.socket.close()
            if self._doorkeeper is not None:
                self._doorkeeper.close()
            self._context.term()
            self._wake_in.close()
            self._wake_out.close()

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            try:
                frames = self.socket.recv_multipart(flags=zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            self._heard_s = time.monotonic()
            if self._is_redialling:
                logger.info("%s answers again", self._server)
                self._is_redialling = False
            name = frames[0].bytes  # of the connection; an actor's socket has one, and never cuts it
            heard = [name, *(frame.bytes if self._side.keeps_frames else frame.buffer for frame in frames[1:])]
            is_bad = self._is_revoked(frames[-1]) or self._side.handle(heard, self._send, time.monotonic())
            if (is_bad or name in self._uncut) and not _cut(frames[-1]):
                self._uncut[name] = None  # by its next message
                while len(self._uncut) > MAX_UNCUT:
                    del self._uncut[next(iter(self._uncut))]
            else:
                self._uncut.pop(name, None)

    def _is_revoked(self, frame: zmq.Frame) -> bool:
        return self._doorkeeper is not None and not self._doorkeeper.is_admitted(frame)


def _cut(frame: zmq.Frame) -> bool:
    """End the connection that a message came by; return False if ZeroMQ does not know which that was.

    Should it have ended by itself, and another have begun in its place, that one is cut: its actor connects again
    within a second and offers again what was under way.
    """
    try:
        descriptor = frame.get(zmq.SRCFD)
    except zmq.ZMQError:  # it knows of most messages, not of all
        return False
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as end:
        end.shutdown(socket.SHUT_RDWR)
    return True
