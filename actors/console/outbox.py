"""What waits to be sent to one browser: a slow one gets the newest and never holds up the others."""

import asyncio
from collections import deque

MAX_EVENTS = 256

Packet = str | bytes  # JSON text, or a picture


class Outbox:
    """Of each kind of reading the newest only; of events the last 256, in order. Used on the event loop only."""

    def __init__(self) -> None:
        self.dropped = 0  # events that a slow browser never got
        self._newest: dict[str, Packet] = {}
        self._events: deque[Packet] = deque(maxlen=MAX_EVENTS)
        self._is_filled = asyncio.Event()

    def put_newest(self, name: str, packet: Packet) -> None:
        """Put a reading in the place of the last one of that name."""
        self._newest.pop(name, None)
        self._newest[name] = packet
        self._is_filled.set()

    def put_event(self, packet: Packet, *, instead_of: str | None = None) -> None:
        """Add what should be told even when it is not the newest any more.

        Args:
            packet: the event.
            instead_of: name of a reading that must not come after it.
        """
        if instead_of is not None:
            self._newest.pop(instead_of, None)
        self.dropped += len(self._events) == MAX_EVENTS
        self._events.append(packet)
        self._is_filled.set()

    async def take(self) -> Packet:
        """Wait for the next packet: events go first."""
        while not (self._events or self._newest):
            self._is_filled.clear()
            await self._is_filled.wait()
        if self._events:
            return self._events.popleft()
        return self._newest.pop(next(iter(self._newest)))
