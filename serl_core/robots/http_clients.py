"""HTTP clients of which each is one thread's at a time.

Threads that share one client share its connections: one thread's look for expired connections, or its closing, then
closes a socket under another's request.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx


class HttpClients:
    """As many clients as threads ask at once; one that is free is used again.

    Args:
        make: returns a new client.
    """

    def __init__(self, make: Callable[[], httpx.Client]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._free: list[httpx.Client] = []
        self._closings = 0  # so far

    @contextmanager
    def taken(self) -> Iterator[httpx.Client]:
        """Lend a client for one request; one whose request failed is closed and not lent again."""
        with self._lock:
            client = self._free.pop() if self._free else None
            closings = self._closings
        if client is None:
            client = self._make()
        is_good = False
        try:
            yield client
            is_good = True
        finally:
            with self._lock:
                is_kept = is_good and closings == self._closings
                if is_kept:
                    self._free.append(client)
            if not is_kept:
                client.close()

    def close(self) -> None:
        """Close the free clients; one that is in use is closed as its request ends. Later requests get new ones."""
        with self._lock:
            self._closings += 1
            free, self._free = self._free, []
        for client in free:
            client.close()
