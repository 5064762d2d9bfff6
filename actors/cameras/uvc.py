"""Webcams and everything else that OpenCV opens: a device's number, its path, or a video file."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.cameras.interface import Frame
from actors.cameras.threaded import CameraThread
from serl_core.clock import Clock
from serl_core.errors import CameraFault
from serl_core.robots.pictures import opencv

FILE_HZ = 30.0  # of a video file that does not say


class UvcCamera(CameraThread):
    """A camera that OpenCV reads.

    Args:
        device: "0" for the first one, a path such as "/dev/v4l/by-id/...", which survives replugging, or a video file.
        size: (height, width) to capture, in pixels; the device may choose another. None is the device's own.
    """

    def __init__(
        self,
        name: str,
        device: str,
        *,
        size: tuple[int, int] | None = None,
        now: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(name, UvcSource(device, size, now=now, sleep=sleep), now=now)

    def open(self) -> None:
        """Start the thread.

        Raises:
            ConfigError: OpenCV is not installed.
        """
        opencv("UVC cameras")
        super().open()


class UvcSource:
    """`cv2.VideoCapture` as a `Source`. A file plays at its own rate, and is gone at its end, as if unplugged."""

    def __init__(
        self,
        device: str,
        size: tuple[int, int] | None = None,
        *,
        now: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._device = device
        self._size = size
        self._now, self._sleep = now, sleep
        self._capture: Any = None
        self._period_s = 0.0  # a device paces itself

    def open(self) -> None:
        """Open the device.

        Raises:
            CameraFault: OpenCV cannot.
        """
        cv2 = opencv("UVC cameras")
        self._capture = cv2.VideoCapture(int(self._device) if self._device.isdecimal() else self._device)
        if not self._capture.isOpened():
            raise CameraFault(f"{self._device} cannot be opened; is it there, plugged in, and used by nobody else?")
        if self._size is not None:
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size[0])
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size[1])
        if Path(self._device).is_file():
            self._period_s = 1.0 / (self._capture.get(cv2.CAP_PROP_FPS) or FILE_HZ)

    def read(self) -> Frame:
        """Wait for the next picture; how long a device that hangs takes is OpenCV's choice, 10 s on Linux.

        Raises:
            CameraFault: there is none any more.
        """
        self._sleep(self._period_s)
        is_there = self._capture.grab()
        came_s = self._now()
        is_whole, image = self._capture.retrieve() if is_there else (False, None)
        if not is_whole:
            raise CameraFault(f"{self._device} gives no more pictures; is it unplugged, or at its end?")
        cv2 = opencv("UVC cameras")
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), came_s)

    def close(self) -> None:
        """Let the device go."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
