"""A crowd at a robot server's doors: `python -m tests.faults.saturate URL STOP_PORT TOKEN_FILE CONNECTIONS SHARE`.

Idle connections at both ports, slow ones, many short ones, handshakes without a token, bodies that are large, deep or
endless, and 16 busy clients with the right token. It goes on until its standard input closes, once all of it was there
at least once, and then prints what it did as a line of JSON. It stands for other machines: it goes after the server.
"""

import asyncio
import contextlib
import json
import os
import resource
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

IDLE, SLOW, BUSY, AT_ONCE = 250, 100, 16, 50
HEAD = "{what} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n"
DEEP = b"[" * 60_000


class Crowd:
    """All of them."""

    def __init__(self, port: int, stop_port: int, token: str, connections: int, share: float) -> None:
        self._share = share  # of those that stay
        self._port = port
        self._stop_port = stop_port
        self._authorization = f"Authorization: Bearer {token}\r\n"
        self._connections = connections
        self.counts: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, has_ended: asyncio.Event) -> None:
        """Crowd the server until told to end, and at least until each short connection was made."""
        endless = [self._idle(port) for port in [self._port, self._stop_port] * round(IDLE * self._share)]
        endless += [self._slow() for _ in range(round(SLOW * self._share))]
        endless += [self._busy() for _ in range(round(BUSY * self._share))]
        self._tasks = [asyncio.create_task(self._again(work)) for work in endless]  # until the process ends
        share = self._connections // AT_ONCE
        await asyncio.gather(*(self._short_ones(first, share) for first in range(AT_ONCE)))
        sys.stdout.write("crowded\n")
        sys.stdout.flush()
        await has_ended.wait()

    async def _again(self, work) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await work()
            await asyncio.sleep(1.0)  # who was dropped comes back, but not at once

    def _idle(self, port: int):
        async def idle() -> None:
            async with self._connected(port) as (reader, _):
                self.counts["idle"] += 1
                await reader.read()

        return idle

    def _slow(self):
        async def slow() -> None:
            async with self._connected(self._port) as (reader, writer):
                self.counts["slow"] += 1
                for byte in HEAD.format(what="GET /v1/state", more=self._authorization).encode():
                    writer.write(bytes([byte]))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.2)

        return slow

    def _busy(self):
        async def busy() -> None:
            async with self._connected(self._port) as (reader, writer):
                while True:
                    writer.write(HEAD.format(what="GET /v1/state", more=self._authorization).encode())
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    self.counts[head.split(b" ")[1].decode()] += 1

        return busy

    async def _short_ones(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            with contextlib.suppress(OSError, TimeoutError):
                async with self._connected(self._port) as (reader, writer):
                    self.counts["short"] += 1
                    if number % 5:
                        continue  # it connects, and is gone
                    writer.write(self._short(number // 5 % 8))
                    with contextlib.suppress(ConnectionError):
                        await writer.drain()
                    answer = await asyncio.wait_for(reader.read(64), 5.0)
                    self.counts[answer[9:12].decode("latin-1") or "closed"] += 1

    def _short(self, kind: int) -> bytes:
        json_head = self._authorization + "Content-Type: application/json\r\n"
        match kind:
            case 0:  # a bomb by its declared length
                return HEAD.format(what="POST /v1/pose", more=json_head + f"Content-Length: {2**30}\r\n").encode()
            case 1:  # an endless body
                head = HEAD.format(what="POST /v1/pose", more=json_head + "Transfer-Encoding: chunked\r\n").encode()
                return head + 3 * (b"8000\r\n" + b" " * 0x8000 + b"\r\n")
            case 2:  # a deep one
                return (
                    HEAD.format(what="POST /v1/pose", more=json_head + f"Content-Length: {len(DEEP)}\r\n").encode()
                    + DEEP
                )
            case 3 | 4:  # handshakes without a token, and with a wrong one
                more = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                more += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                return HEAD.format(
                    what="GET /v1/stream", more=more + ("" if kind == 3 else "Authorization: Bearer x\r\n")
                ).encode()
            case 5:  # a head without end
                return b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 70_000
            case 6:  # garbage
                return b"\x80\x04\x95" + bytes(range(256)) + b"\r\n\r\n"
        return HEAD.format(what="GET /v1/state", more="").encode()

    @contextlib.asynccontextmanager
    async def _connected(self, port: int):
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 10.0)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def main(url: str, stop_port: str, token_file: str, connections: str, share: str) -> None:
    """Crowd the server until standard input closes."""
    has_ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, has_ended.set)
    token = Path(token_file).read_text().strip()
    crowd = Crowd(urlsplit(url).port or 0, int(stop_port), token, int(connections), float(share))
    await crowd.run(has_ended)
    sys.stdout.write(json.dumps(crowd.counts) + "\n")
    sys.stdout.flush()
    os._exit(0)  # hundreds of tasks need not be asked


if __name__ == "__main__":
    os.nice(10)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    asyncio.run(main(*sys.argv[1:]))
