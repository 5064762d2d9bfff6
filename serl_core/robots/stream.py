"""One text message out, one back, over a WebSocket on a blocking socket: no thread, no hand-over.

The websockets library does the protocol; its own client wakes a reader thread per message, which
costs a fifth of a millisecond at each control step.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from serl_core.robots.tls import client_context

CHUNK_BYTES = 65536


class ExchangeRefused(Exception):
    """The server answered the handshake with another status; `body` says why."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.body = body


class Exchange:
    """A connected WebSocket.

    Args:
        url: ws://host:port/path, or wss:// for an encrypted one.
        headers: sent with the handshake.
        timeout_s: of the connection and the handshake.

    Raises:
        OSError: no connection, or no answer in time.
        ExchangeRefused: the server does not take it.
    """

    def __init__(self, url: str, headers: dict[str, str], timeout_s: float) -> None:
        uri = parse_uri(url)
        self._protocol = ClientProtocol(uri)
        self._socket = socket.create_connection((uri.host, uri.port), timeout_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if uri.secure:
                self._socket = client_context().wrap_socket(self._socket, server_hostname=uri.host)
            self._shake_hands(headers, time.monotonic() + timeout_s)
        except BaseException:  # also Ctrl-C: no socket stays open; raised again
            self._socket.close()
            raise

    def ask(self, text: bytes, timeout_s: float) -> bytes:
        """Send a message and return the answer to it.

        Raises:
            OSError: the connection is lost, or no answer came in time; then close it, because a late
                answer would be taken for the next one's.
        """
        deadline_s = time.monotonic() + timeout_s
        self._protocol.send_text(text)
        self._flush()
        while True:
            for event in self._events(deadline_s):
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT and event.fin:
                    return bytes(event.data)
            if self._protocol.state is not State.OPEN:
                raise ConnectionResetError("the server closed the stream")

    def close(self) -> None:
        """Say goodbye, without waiting for the answer. Safe to call twice."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            with contextlib.suppress(OSError):  # the server may be gone already
                self._flush()
        self._socket.close()

    def _shake_hands(self, headers: dict[str, str], deadline_s: float) -> None:
        request = self._protocol.connect()
        for name, value in headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()
        response: Response | None = None
        while response is None:
            for event in self._events(deadline_s):
                if isinstance(event, Response):
                    response = event
        if self._protocol.state is not State.OPEN:
            raise ExchangeRefused(response.status_code, bytes(response.body or b""))

    def _events(self, deadline_s: float) -> Iterator[Any]:
        """Wait for bytes and return what they mean; answer pings on the way."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0.0:
            raise TimeoutError("no answer in time")
        self._socket.settimeout(left_s)
        data = self._socket.recv(CHUNK_BYTES)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._flush()
        events = self._protocol.events_received()
        if not data and not events:
            raise ConnectionResetError("the server closed the connection")
        return iter(events)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)
