"""A thread that keeps what a SpaceMouse said last, and gets the device back when it is unplugged."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from actors.teleop.puck_reading import PuckReading
from serl_core.clock import Clock
from serl_core.errors import ConfigError

logger = logging.getLogger(__name__)

READ_TIMEOUT_S = 0.05  # how long the thread may take to see that it is to end
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0
CLOSE_S = 2.0  # for a read that is under way


class Source(Protocol):
    """`actors.teleop.puck_device.PuckDevice`. After `open` has failed, or `read`, it is closed."""

    def open(self) -> None:
        """Open the device."""

    def read(self, timeout_s: float) -> PuckReading:
        """Wait for a report, and return what is true now."""

    def lost(self) -> PuckReading:
        """Return what is true once the device is gone."""

    def close(self) -> None:
        """Let the device go."""


class PuckThread:
    """Reads a SpaceMouse all the time. A lost device is warned of once, and tried again until it is back.

    The pause before a try is 0.2 s, doubled each time up to 2 s.

    Args:
        wait: sleeps for some seconds, or until closed; then returns True.
    """

    def __init__(
        self, source: Source, *, now: Clock = time.monotonic, wait: Callable[[float], bool] | None = None
    ) -> None:
        self._source = source
        self._now = now
        self._is_closing = threading.Event()
        self._wait = wait or self._is_closing.wait
        self._thread: threading.Thread | None = None
        self._reading = PuckReading()

    def open(self) -> None:
        """Open the device and start the thread.

        Raises:
            ConfigError: the device is not there or may not be opened, or the thread before still waits for it.
        """
        if self._thread is not None and self._thread.is_alive():
            raise ConfigError("SpaceMouse: it is still open; close it first, or unplug it if it hangs")
        self._source.open()
        self._is_closing.clear()
        try:
            self._reading = self._source.read(0.0)
        except Exception as error:  # of the HID library: it went as it came
            self._source.close()
            raise ConfigError(f"SpaceMouse: it cannot be read ({error}); plug it in again") from error
        self._thread = threading.Thread(target=self._run, name="spacemouse", daemon=True)
        self._thread.start()

    def read(self) -> PuckReading:
        """Return what the device said last, without blocking."""
        return self._reading

    def close(self) -> None:
        """End the thread; one that hangs in its device is left to end by itself. Safe to call twice."""
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        pause_s, lost_s, is_open = FIRST_PAUSE_S, None, True
        while True:
            try:
                if not is_open:
                    self._source.open()
                    is_open = True
                while not self._is_closing.is_set():
                    self._reading = self._source.read(READ_TIMEOUT_S)
                    if lost_s is not None:
                        logger.warning("SpaceMouse: back after %.1f s; let its puck go once", self._now() - lost_s)
                        pause_s, lost_s = FIRST_PAUSE_S, None
            except Exception as error:  # of any kind: a thread that died could not get the device back
                self._reading = self._source.lost()
                if lost_s is None:
                    lost_s = self._now()
                    logger.warning("SpaceMouse: lost (%s); nobody can intervene until it is plugged in again", error)
            finally:
                self._close_source()
                is_open = False
            if self._is_closing.is_set() or self._wait(pause_s):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _close_source(self) -> None:
        try:
            self._source.close()
        except Exception as error:  # a device that is gone may refuse that too
            logger.debug("SpaceMouse: closing it failed: %s", error)
