"""A camera and a SpaceMouse that fail when they are told to: wrap one of yours, and see what your task makes of it.

Each stands below the thread that keeps its newest frame or report, where the real one does:

    camera = FaultyCamera(UvcSource(...))
    vision = CameraVision(observation, make=lambda *_: CameraThread("wrist", camera))
    camera.failure = CameraFailure.SAME_BYTES
"""

import threading
import time
from enum import Enum

from actors.cameras import threaded
from actors.cameras.interface import Frame
from actors.teleop import puck_thread
from actors.teleop.puck_reading import PuckReading

HANGS_S = 0.2


class CameraFailure(Enum):
    """What a camera may do wrong."""

    REFUSES = "refuses"  # to be opened
    RAISES = "raises"
    HANGS = "hangs"  # for 0.2 s, each time; then its driver gives up
    EMPTY = "empty"  # a picture without a pixel
    SHAPE = "shape"  # of other sides than it was opened with
    DARK = "dark"
    SAME_BYTES = "same bytes"
    SAME_BYTES_NEW_STAMP = "same bytes, new stamp"
    SAME_STAMP = "same stamp"  # under new bytes


class FaultyCamera:
    """A `actors.cameras.threaded.Source` around another.

    Attributes:
        failure: what it does from now on; None, what the other one does.
    """

    def __init__(self, source: threaded.Source) -> None:
        self.failure: CameraFailure | None = None
        self._source = source
        self._last: Frame | None = None

    def open(self) -> None:
        """Open the other one."""
        if self.failure is CameraFailure.REFUSES:
            raise OSError("no such device")
        self._source.open()

    def read(self) -> Frame:
        """Return the other one's next picture, or what has become of it."""
        failure, last = self.failure, self._last
        if failure is CameraFailure.RAISES:
            raise OSError("the device does not answer")
        if failure is CameraFailure.HANGS:
            time.sleep(HANGS_S)
            raise TimeoutError("no picture within its time")
        frame = self._source.read()
        if failure is None or last is None:
            self._last = frame
            return frame
        match failure:
            case CameraFailure.EMPTY:
                return frame._replace(image=frame.image[:0, :0])
            case CameraFailure.SHAPE:
                return frame._replace(image=frame.image[: frame.image.shape[0] // 2])
            case CameraFailure.DARK:
                return frame._replace(image=frame.image // 255)
            case CameraFailure.SAME_BYTES:
                return frame._replace(image=last.image.copy(), stamp_s=None)
            case CameraFailure.SAME_BYTES_NEW_STAMP:
                return frame._replace(image=last.image.copy())
        return frame._replace(stamp_s=last.stamp_s)

    def close(self) -> None:
        """Close the other one."""
        self._source.close()


class PuckFailure(Enum):
    """What a SpaceMouse, or its reader, may do wrong."""

    RAISES = "raises"  # as an unplugged one
    SILENT = "silent"  # it repeats its last report for ever
    DIES = "dies"  # the thread that reads it does nothing more


class FaultyPuck:
    """A `actors.teleop.puck_thread.Source` around another.

    Attributes:
        is_dead: set once the reader has died.
    """

    def __init__(self, source: puck_thread.Source) -> None:
        self.is_dead = threading.Event()
        self._source = source
        self._failure: PuckFailure | None = None
        self._revived = threading.Event()
        self._last: PuckReading | None = None

    @property
    def failure(self) -> PuckFailure | None:
        """What it does from now on; None, what the other one does, also for a reader that was dead."""
        return self._failure

    @failure.setter
    def failure(self, failure: PuckFailure | None) -> None:
        self._failure = failure
        if failure is None:
            self._revived.set()
        else:
            self._revived.clear()

    def open(self) -> None:
        """Open the other one."""
        if self._failure is PuckFailure.RAISES:
            raise OSError("no such device")
        self._source.open()

    def read(self, timeout_s: float) -> PuckReading:
        """Return the other one's reading, or what has become of it."""
        if self._failure is PuckFailure.RAISES:
            raise OSError("no such device")
        if self._failure is PuckFailure.DIES:
            self.is_dead.set()
            self._revived.wait()  # a thread cannot be killed: this one does nothing more
        if self._failure is PuckFailure.SILENT and self._last is not None:
            time.sleep(timeout_s)
            return self._last
        self._last = self._source.read(timeout_s)
        return self._last

    def lost(self) -> PuckReading:
        """Return what the other one says of its loss."""
        return self._source.lost()

    def close(self) -> None:
        """Close the other one."""
        self._source.close()
