"""uvicorn's HTTP, with few connections and little patience: what idle, slow and endless clients can cost is bounded.

A client has 2 s for the head of each request, which has at most 64 KiB. With 64 connections open, a newer one takes the
place of the oldest that has not yet had an answer to a request with a token, of those first that have asked nothing;
where all have had one, the newer one is closed. Requests that read take turns, so that a crowd of them holds up no
command.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from robot_servers.turns import turns

MAX_CONNECTIONS = 64
MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED = 4  # requests that wait for the answer to one before them
HEAD_TIMEOUT_S = 2.0
READS = (b"GET ", b"HEAD ", b"OPTIONS ")
TIMEOUT_ANSWER = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

CLIENTS_FAULTS = (
    "Invalid HTTP request received.",
    "Unsupported upgrade request.",
    "ASGI callable returned without completing handshake.",
)


def is_ours(record: logging.LogRecord) -> bool:
    """Return whether a line of uvicorn's log is about this server: of what clients do, anybody could fill the disk."""
    return record.msg not in CLIENTS_FAULTS


class LimitedHttp(HttpToolsProtocol):
    """One connection; given to uvicorn as its HTTP protocol."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_proven = False  # it got an answer that did not close it
        self.since_s = time.monotonic()
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_in_head = True
        self._head_bytes = 0
        self._held_bytes = 0  # that the parser may have kept without a word
        self._unread: deque[bytes] = deque()  # in order, until their turns come

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if there is room."""
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > MAX_CONNECTIONS:
            waiting = [other for other in self.connections if isinstance(other, LimitedHttp) and not other.is_proven]
            self._drop(min(waiting, key=lambda other: (bool(other._unread), other.since_s), default=self))

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting."""
        self._unread.clear()
        self._end_head_wait()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, or let it wait for its turn."""
        if not self._unread and not data.startswith(READS):
            self._take(data)
            return
        self._unread.append(data)
        if len(self._unread) > 1:
            self.flow.pause_reading()
        turns().take(self._take_next)

    def _take_next(self) -> None:
        if not self._unread:  # the connection has ended
            return
        data = self._unread.popleft()
        self.flow.resume_reading()
        try:
            self._take(data)
        except Exception:  # as the event loop does where there are no turns
            self.transport.abort()
            raise

    def _take(self, data: bytes) -> None:
        """Take what came; the head of a request has a limit of time, however slowly it drips in."""
        protocol = self.transport.get_protocol()
        if protocol is not self:  # a stream by now
            protocol.data_received(data)
            return
        if self.transport.is_closing():
            return
        self._held_bytes += len(data)
        super().data_received(data)
        if self._held_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The head is too large.")
        if self.transport.get_protocol() is not self or not self._is_in_head:
            self._end_head_wait()
        elif self._head_timer is None:
            self._await_head()

    # ---- told by the parser; what is raised here is answered 400

    def on_message_begin(self) -> None:
        """Begin with the head of a request."""
        super().on_message_begin()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        self._is_in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, of the head or behind a chunked body."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._is_in_head = False
        self._held_bytes = 0
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise ValueError("two hosts")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._held_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._held_bytes = 0
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._held_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("a large head")

    # ---- its place among the connections

    def on_response_complete(self) -> None:
        """Take note that the connection goes on, if it does: refusals close theirs."""
        super().on_response_complete()
        self.is_proven = not self.transport.is_closing()

    def _drop(self, other: "LimitedHttp") -> None:
        other._end_head_wait()
        self.connections.discard(other)  # at once, for the next one to see
        other.transport.abort()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _end_head_wait(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.write(TIMEOUT_ANSWER)
            self.transport.close()
