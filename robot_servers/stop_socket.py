"""The stop's own socket: it answers while everything else of the server is saturated (SAFETY.md 2.2, rule 9).

A thread of its own serves it and nothing else. It shares no lock, no event loop and no limit with the commands: what
it does is one assignment, which the control loop reads in its next tick. It does share the interpreter, which each
call of the system lends to threads that are busy: there are as few of them as a connection can do with. A software
stop, not an emergency stop.
"""

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from contextvars import Context

from robot_servers.audit import REQUESTER, Requester
from robot_servers.stop_request import MAX_HEAD_BYTES, answer_to, refusal_of
from robot_servers.tokens import Tokens
from serl_core.robots.messages import Stopped

logger = logging.getLogger(__name__)

MAX_VISITORS = 256  # a newer one takes the place of the oldest, so that idle ones keep nobody out
PATIENCE_S = 2.0  # from the connection to its end
LOOK_S = 0.25  # between looks for those that outstay
CHUNK_BYTES = 65536
MAX_READ_BYTES = 1024 * 1024  # of a client that goes on sending
ACCEPTED_AT_ONCE = 32  # then those that are in are heard
ENDED = (ConnectionError, TimeoutError, ssl.SSLError, OSError)


class _Visitor:
    """One connection. It is answered once, and then read until its client closes it: an answer must not be cut off."""

    def __init__(self, connection: socket.socket, client: str, must_shake: bool, since_s: float) -> None:
        self.socket = connection
        self.client = client
        self.must_shake = must_shake
        self.since_s = since_s
        self.head = b""
        self.read_bytes = 0
        self.is_answered = False


class StopSocket:
    """Serves ``POST /v1/stop`` on `listener`, which its owner closes, from `start` to `close`.

    Args:
        listener: a listening socket.
        latch: latches the stop, without a lock; given the cause.
        tokens: any of them will do. A wrong one is refused, and never counted: nobody is kept from the stop.
        hosts: names of this server, without a port.
        server: tells this start of the server from others; told with each answer.
        tls: encrypts, where the server does.
    """

    def __init__(
        self,
        listener: socket.socket,
        latch: Callable[[str], None],
        tokens: Tokens,
        hosts: Collection[str],
        server: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listener = listener
        self._latch = latch
        self._tokens = tokens
        self._hosts = frozenset(hosts)
        self._server = server
        self._tls = tls
        self._visitors: dict[socket.socket, _Visitor] = {}  # the oldest first
        self._at_once = socket.MSG_DONTWAIT if tls is None else 0  # TLS sockets take no flags, and are told to once
        self._selector = selectors.PollSelector()  # unlike epoll it need not tell the system of each
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stop-socket", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()

    def close(self) -> None:
        """End the thread, once started."""
        self._is_closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_closing.is_set():
            for key, _ in self._selector.select(LOOK_S):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data.socket in self._visitors:  # it may have had to make room meanwhile
                    self._hear(key.data)
            self._send_away(time.monotonic() - PATIENCE_S)
        self._send_away(time.monotonic())
        self._selector.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # such as no descriptors left: the next turn tries again
                logger.error("the stop's socket takes no connection: %s", error)
                time.sleep(0.001)
                return
            if self._tls is not None:
                connection.setblocking(False)
                connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            while len(self._visitors) >= MAX_VISITORS:
                oldest = next(iter(self._visitors.values()))
                self._hear(oldest)  # its request may have come in this very turn
                self._dismiss(oldest)
            visitor = _Visitor(connection, address[0], self._tls is not None, time.monotonic())
            self._visitors[connection] = visitor
            self._selector.register(connection, selectors.EVENT_READ, visitor)
            self._hear(visitor)  # at once: its request is mostly there

    def _hear(self, visitor: _Visitor) -> None:
        """Read what is there, and answer a whole request."""
        try:
            if visitor.must_shake:
                self._shake(visitor)
            while True:
                chunk = visitor.socket.recv(CHUNK_BYTES, self._at_once)
                visitor.read_bytes += len(chunk)
                if not chunk or visitor.read_bytes > MAX_READ_BYTES:
                    self._dismiss(visitor)
                    return
                if not visitor.is_answered:  # what follows the head is the body: it says nothing
                    visitor.head += chunk
                    self._answer(visitor)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except ENDED:
            self._dismiss(visitor)
        except Exception:  # no request whatever may end the thread that stops the arm
            logger.exception("a request to the stop's socket failed")
            self._dismiss(visitor)

    def _shake(self, visitor: _Visitor) -> None:
        assert isinstance(visitor.socket, ssl.SSLSocket)
        visitor.socket.do_handshake()
        visitor.must_shake = False

    def _answer(self, visitor: _Visitor) -> None:
        head, end, _ = visitor.head.partition(b"\r\n\r\n")
        if not end and len(head) <= MAX_HEAD_BYTES:
            return
        role, refusal = refusal_of(head if end else None, self._tokens, self._hosts)
        if refusal is None and role is not None:
            context = Context()
            context.run(REQUESTER.set, Requester(visitor.client, role.value))
            context.run(self._latch, "stop")
        answer = answer_to(Stopped(cause="stop", server=self._server) if refusal is None else refusal.problem())
        visitor.is_answered = True
        visitor.socket.send(answer, self._at_once)  # whole: it is far below what a new connection buffers
        with contextlib.suppress(OSError):  # a TLS socket cannot be closed by half
            if self._tls is None:
                visitor.socket.shutdown(socket.SHUT_WR)

    def _send_away(self, before_s: float) -> None:
        for visitor in list(self._visitors.values()):
            if visitor.since_s > before_s:
                return
            self._dismiss(visitor)

    def _dismiss(self, visitor: _Visitor) -> None:
        if self._visitors.pop(visitor.socket, None) is not None:
            self._selector.unregister(visitor.socket)
            visitor.socket.close()
