"""A TCP line that misbehaves when it is told to: put it between any two programs that speak TCP.

It stands for a bad network as TCP shows it to its users: late, slow, stalled, cut, half dead. What TCP never shows
(bytes that change, vanish or come twice) stands for faulty programs and machines in between.
"""

import asyncio
import math
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

SEGMENT = 1448  # bytes that a packet of Ethernet carries for TCP
CHUNK = 16 * SEGMENT
BUFFER_S = 0.05  # of the line's rate, which a router before a slow line may hold
BUFFER_BYTES = 2**18  # likewise without a rate


@dataclass(kw_only=True)
class LineFaults:
    """What is wrong with the line now; set its fields at any time. In both directions unless said."""

    delay_s: float = 0.0  # one way
    jitter_s: float = 0.0  # at most so much more, at random; the order stays
    bytes_per_s: float = math.inf  # shared by all connections
    loss: float = 0.0  # chance of a segment to come a round trip late, with all behind it: TCP sends a lost one again
    is_black_hole: bool = False  # nothing passes and nobody is told; when it ends, the rest goes on
    is_closed: bool = False  # new connections are cut at once
    flip_chance: float = 0.0  # of a chunk to have a bit flipped, towards the server
    drop_chance: float = 0.0  # of a chunk to vanish, towards the server
    duplicate_chance: float = 0.0  # of a chunk to come twice, towards the server
    flip_bit: int | None = None  # this one of each connection, counted from its start, towards the server
    truncate_at: int | None = None  # each connection is cut after so many bytes towards the server


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    is_half_open: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class FaultyLine:
    """Listens on a loopback port of its own and passes on what comes, to and from `host`:`port`.

    Args:
        port: of the server; it need not listen yet.
        host: of the server.
        seed: of everything random.
        listen_host: where to listen.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", seed: int = 0, listen_host: str = "127.0.0.1") -> None:
        self.faults = LineFaults()
        self.port = 0
        self.passed_bytes = {"to_server": 0, "to_client": 0}
        self._target = (host, port)
        self._listen_host = listen_host
        self._random = random.Random(seed)
        self._free_at_s = {"to_server": 0.0, "to_client": 0.0}
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="faulty-line", daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def __enter__(self) -> "FaultyLine":
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    def reset(self) -> None:
        """End all connections as a crashed machine does that is up again: by TCP's reset, to both sides."""

        def abort() -> None:
            for connection in tuple(self._connections):
                self._abort(connection)

        self._call(abort)

    def half_open(self) -> None:
        """Let the server lose all connections, without a word to the clients: what they send goes nowhere."""

        def forget() -> None:
            for connection in self._connections:
                connection.is_half_open = True
                _reset(connection.server)

        self._call(forget)

    def _call(self, action: Callable[[], object]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, self._listen_host, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = [task for connection in self._connections for task in connection.tasks]
        for connection in tuple(self._connections):
            self._abort(connection)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        if self.faults.is_closed:
            _reset(client_out)
            return
        try:
            server_in, server_out = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(client_out)
            return
        connection = _Connection(client_out, server_out)
        self._connections.add(connection)
        connection.tasks = [
            asyncio.create_task(self._pass_on(connection, client_in, server_out, "to_server")),
            asyncio.create_task(self._pass_on(connection, server_in, client_out, "to_client")),
        ]

    def _abort(self, connection: _Connection) -> None:
        _reset(connection.client)
        _reset(connection.server)
        self._connections.discard(connection)
        for task in connection.tasks:
            if task is not asyncio.current_task(self._loop):
                task.cancel()

    async def _pass_on(
        self, connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str
    ) -> None:
        waiting: deque[tuple[float, bytes]] = deque()
        changed = asyncio.Event()
        writer = asyncio.create_task(self._write(connection, waiting, changed, sink, way))
        connection.tasks.append(writer)
        read, due_s = 0, 0.0
        try:
            while data := await source.read(CHUNK):
                if connection.is_half_open:
                    continue
                for piece in self._damaged(data, read, way):
                    due_s = max(due_s, self._due_s(len(piece), way))
                    waiting.append((due_s, piece))
                read += len(data)
                changed.set()
                limit = self.faults.truncate_at
                if way == "to_server" and limit is not None and read >= limit:
                    break
                while sum(len(piece) for _, piece in waiting) > self._room():
                    await asyncio.sleep(0.002)
        except OSError:
            pass
        finally:
            if not connection.is_half_open:
                waiting.append((due_s, b""))  # the end comes after all that is under way
                changed.set()
                with suppress(asyncio.CancelledError):
                    await writer
                self._abort(connection)

    async def _write(
        self,
        connection: _Connection,
        waiting: deque[tuple[float, bytes]],
        changed: asyncio.Event,
        sink: asyncio.StreamWriter,
        way: str,
    ) -> None:
        with suppress(OSError):
            while True:
                while not waiting:
                    changed.clear()
                    await changed.wait()
                due_s, piece = waiting[0]
                await asyncio.sleep(due_s - self._loop.time())
                while self.faults.is_black_hole:
                    await asyncio.sleep(0.002)
                if not piece:
                    return
                if not connection.is_half_open:
                    sink.write(piece)
                    await sink.drain()
                    self.passed_bytes[way] += len(piece)
                waiting.popleft()

    def _room(self) -> int:
        rate = self.faults.bytes_per_s
        recovery_s = 2 * self.faults.delay_s if self.faults.loss else 0.0  # TCP goes on sending while it repairs
        return BUFFER_BYTES if rate == math.inf else int(rate * (self.faults.delay_s + recovery_s + BUFFER_S))

    def _due_s(self, size: int, way: str) -> float:
        """Return when so many bytes, that begin to leave as soon as the line is free, have arrived."""
        faults = self.faults
        self._free_at_s[way] = max(self._free_at_s[way], self._loop.time()) + size / faults.bytes_per_s
        lost = sum(self._random.random() < faults.loss for _ in range(math.ceil(size / SEGMENT)))
        late_s = faults.delay_s + self._random.uniform(0.0, faults.jitter_s) + 2 * faults.delay_s * min(lost, 1)
        return self._free_at_s[way] + late_s

    def _damaged(self, data: bytes, start: int, way: str) -> list[bytes]:
        """Return what becomes of a chunk that begins at byte `start` of its stream."""
        faults = self.faults
        if way != "to_server":
            return [data]
        if faults.truncate_at is not None:
            data = data[: max(faults.truncate_at - start, 0)]
        if faults.flip_bit is not None and start <= faults.flip_bit // 8 < start + len(data):
            data = _flip(data, faults.flip_bit - 8 * start)
        if data and self._random.random() < faults.flip_chance:
            data = _flip(data, self._random.randrange(8 * len(data)))
        if not data or self._random.random() < faults.drop_chance:
            return []
        return [data, data] if self._random.random() < faults.duplicate_chance else [data]


def _flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset, not by a farewell."""
    end = writer.get_extra_info("socket")
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
