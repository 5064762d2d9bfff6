"""A request to the arm by another thread than the one that alone talks to it."""

import threading
from collections.abc import Callable

from robot_servers.limits import Refusal

PATIENCE_S = 10.0


class Errand:
    """A call that the control thread makes for another, which waits for it."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._error: Exception | None = None
        self._is_done = threading.Event()
        self._is_abandoned = False

    def run(self) -> None:
        """Make the call, unless nobody waits for it any more; what it raises is for the one that waits."""
        if self._is_abandoned:
            return
        try:
            self._call()
        except Exception as error:
            self._error = error
        self._is_done.set()

    def refuse(self, why: Exception) -> None:
        """End the wait: the call will not be made."""
        self._error = why
        self._is_abandoned = True
        self._is_done.set()

    def wait(self, what: str) -> None:
        """Wait for the call.

        Raises:
            Refusal: it was not made in time, or it failed.
        """
        if not self._is_done.wait(PATIENCE_S):
            self._is_abandoned = True  # made later, it would come as a surprise
            raise Refusal(503, "backend", f"the arm did not answer to {what} within {PATIENCE_S:g} s; look at the arm")
        if self._error is not None:
            raise Refusal(503, "backend", f"the arm does not take {what}: {self._error}; look at the arm, and at Desk")
