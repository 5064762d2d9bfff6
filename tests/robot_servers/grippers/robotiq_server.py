"""A small model of a Robotiq 2F behind pymodbus's own server, on a thread of its own.

Its fingers move with every reading of its status, not with time: what a test sees does not depend on how
busy the machine is.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

OUTPUT, INPUT, COUNT = 0x03E8, 0x07D0, 3
UNIT_ID = 9
STEP = 32  # of gPO, with every reading
ACTIVATION_READINGS = 3


class Robotiq2F:
    """The registers of a gripper, and what it does with them."""

    def __init__(self, *, is_activated: bool = True, position: int = 3) -> None:
        self.is_activated = is_activated
        self.position = position  # gPO
        self.object_at: int | None = None  # closing stops there
        self.fault = 0
        self.writes: list[tuple[int, ...]] = []
        self.readings = 0
        self.answers = threading.Event()  # cleared: every request waits
        self.answers.set()
        self.is_waiting = False  # a request does
        self._going_to: int | None = None
        self._activating = 0
        self._was_on = is_activated

    async def act(
        self, function: int, start: int, address: int, count: int, registers: list[int], values: list[int] | None
    ) -> None:
        """Do what one request asks for: pymodbus calls this before it answers."""
        while not self.answers.is_set():
            self.is_waiting = True
            await asyncio.sleep(0.002)
        self.is_waiting = False
        if values is not None:
            assert (function, address, len(values)) == (16, OUTPUT, COUNT)
            self._obey(values)
        else:
            assert (function, address, count) == (3, INPUT, COUNT)
            self._live()
            registers[INPUT - start : INPUT - start + COUNT] = self.status()

    def status(self) -> list[int]:
        """Return gACT gGTO gSTA gOBJ, gFLT gPR, gPO gCU."""
        g_sta = 3 if self.is_activated else (1 if self._activating else 0)
        is_on = self.is_activated or self._activating
        g_obj = 2 if self.object_at is not None and self.position == self.object_at else 3
        flags = int(bool(is_on)) | (self._going_to is not None) << 3 | g_sta << 4 | g_obj << 6
        return [flags << 8, self.fault << 8 | (self._going_to or 0), self.position << 8]

    def _obey(self, values: list[int]) -> None:
        self.writes.append(tuple(values))
        is_on, goes = values[0] >> 8 & 0x01, values[0] >> 8 & 0x08
        if not is_on:
            self.is_activated, self._activating, self._going_to = False, 0, None
        elif not self._was_on:
            self._activating, self.fault = ACTIVATION_READINGS, 0  # the rising edge
        self._was_on = bool(is_on)
        if goes and self.is_activated:
            self._going_to = values[1] & 0xFF

    def _live(self) -> None:
        self.readings += 1
        if self._activating:
            self._activating -= 1
            if self._activating == 0:
                self.is_activated, self.position = True, 3
        elif self._going_to is not None:
            far = self._going_to - self.position
            self.position += max(-STEP, min(far, STEP))
            if self.object_at is not None and far > 0:
                self.position = min(self.position, self.object_at)


@contextmanager
def serving(gripper: Robotiq2F, *, port: int = 0, unit_id: int = UNIT_ID) -> Iterator[int]:
    """Serve a gripper on 127.0.0.1; yield the port."""
    is_up = threading.Event()
    ports: list[int] = []
    loop = asyncio.new_event_loop()

    async def run() -> None:
        blocks = [SimData(address, count=COUNT, datatype=DataType.REGISTERS) for address in (OUTPUT, INPUT)]
        server = ModbusTcpServer(SimDevice(unit_id, simdata=blocks, action=gripper.act), address=("127.0.0.1", port))
        await server.serve_forever(background=True)
        ports.append(server.transport.sockets[0].getsockname()[1])
        is_up.set()
        await ended.wait()
        await server.shutdown()
        await asyncio.sleep(0.02)  # the connections end

    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name="robotiq-server")
    thread.start()
    try:
        assert is_up.wait(30.0)
        yield ports[0]
    finally:
        gripper.answers.set()
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
