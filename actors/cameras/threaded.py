"""A thread that keeps a camera's newest frame, and gets the camera back when it is lost."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from actors.cameras.interface import Frame, flaw
from serl_core.clock import Clock
from serl_core.errors import CameraFault

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
FLAWED_S = 2.0  # without a good picture: then the device is opened anew
CLOSE_S = 2.0  # for a read that is under way


class Source(Protocol):
    """A device that is read in a thread of its own: all calls come from there, and may raise any error."""

    def open(self) -> None:
        """Connect to the device, within seconds."""

    def read(self) -> Frame:
        """Wait for the next picture, a second or so at most, and return it in an array of its own.

        A frame repeats the one before if its stamp does, or if all bytes do: a sensor's noise is never twice the
        same.
        """

    def close(self) -> None:
        """Let the device go. Safe to call twice, and when it is not open."""


class CameraThread:
    """A `Camera` around a `Source`. It asks nobody anything, and ends only when closed.

    A device that fails is closed and opened again after a pause of 0.2 s, doubled each time up to 5 s.
    A frame that repeats the one before, or is black, is none: the last good one stands, and ages. A device
    that gives only such frames for 2 s has failed too.

    Args:
        name: for messages.
        has_noise: a sensor's pictures are never twice the same, whatever their stamps say; a simulator's may be.
        wait: sleeps for some seconds, or until closed; then returns True.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        has_noise: bool = True,
        now: Clock = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._has_noise = has_noise
        self._name = name
        self._source = source
        self._now = now
        self._is_closing = threading.Event()
        self._wait = wait or self._is_closing.wait
        self._thread: threading.Thread | None = None
        self._frame: Frame | None = None
        self._problem: str | None = None

    def open(self) -> None:
        """Start the thread.

        Raises:
            CameraFault: the thread before still waits for the device, two seconds after it was closed.
        """
        if self._thread is not None and self._thread.is_alive():
            raise CameraFault(f"camera {self._name!r}: it is still open; close it, or unplug it if it hangs")
        self._is_closing.clear()
        self._frame, self._problem = None, "it has given no picture yet"
        self._thread = threading.Thread(target=self._run, name=f"camera {self._name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; one that hangs in its device is left to end by itself. Safe to call twice."""
        self._is_closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def latest(self) -> Frame | None:
        """Return the newest good frame, however old."""
        return self._frame

    def problem(self) -> str | None:
        """Return why no new frame comes."""
        return self._problem

    def _run(self) -> None:
        pause_s, lost_s = FIRST_PAUSE_S, None
        while not self._is_closing.is_set():
            try:
                self._source.open()
                good_s = self._now()
                while not self._is_closing.is_set():
                    self._take(self._source.read())
                    if self._problem is None:
                        if lost_s is not None:
                            logger.warning("camera %s: back after %.1f s", self._name, self._now() - lost_s)
                        pause_s, lost_s, good_s = FIRST_PAUSE_S, None, self._now()
                    elif self._now() - good_s > FLAWED_S:
                        raise CameraFault(self._problem)
            except Exception as error:  # of any kind: a thread that died could not get the camera back
                self._problem = str(error) or type(error).__name__
                if lost_s is None:
                    lost_s = self._now()
                    logger.warning("camera %s: %s; trying again until it is back", self._name, self._problem)
            finally:
                self._close_source()
            if self._is_closing.is_set() or self._wait(pause_s):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _take(self, frame: Frame) -> None:
        problem = flaw(frame.image)
        if problem is None and self._frame is not None and is_repeat(self._frame, frame, has_noise=self._has_noise):
            problem = "it gives the same picture again and again"
        if problem is None:
            frame.image.flags.writeable = False
            self._frame = frame
        self._problem = problem

    def _close_source(self) -> None:
        try:
            self._source.close()
        except Exception as error:  # a device that is gone may refuse that too
            logger.debug("camera %s: closing it failed: %s", self._name, error)


def is_repeat(before: Frame, frame: Frame, *, has_noise: bool) -> bool:
    """Return whether two frames are one picture: by their stamps, and by their bytes where these tell.

    A driver that hangs may go on stamping the last picture anew.
    """
    if frame.stamp_s is not None and (frame.stamp_s == before.stamp_s or not has_noise):
        return frame.stamp_s == before.stamp_s
    return np.array_equal(frame.image, before.image)
