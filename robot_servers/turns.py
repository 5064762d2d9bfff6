"""Requests that read begin one after the other: a command that comes with a crowd of them waits for one of them."""

import asyncio


class Turns:
    """Of one event loop."""

    def __init__(self) -> None:
        """Begin."""
        self._newest: asyncio.Event | None = None

    async def mine(self) -> None:
        """Wait until the request before has begun, and the event loop has looked at what else there is."""
        before, begun = self._newest, asyncio.Event()
        self._newest = begun
        try:
            if before is not None:
                await before.wait()  # does not wait if it has
        finally:
            asyncio.get_running_loop().call_soon(begun.set)
