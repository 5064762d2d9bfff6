"""The newest picture of each camera at the robot as JPEG, fetched once for all browsers."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote

from actors.console.repeating import Repeating
from actors.console.robot_connection import RobotConnection
from serl_core.clock import Clock
from serl_core.errors import RobotError
from serl_core.robots.messages import STAMP_HEADER, CameraNames

logger = logging.getLogger(__name__)

PERIOD_S = 0.1
LOOK_FOR_CAMERAS_S = 5.0
PAUSE_AFTER_FAILURE_S = 1.0
SIZE = (192, 192)  # height and width of a picture whose size the task does not say

Publish = Callable[[str, bytes], None]
"""Gets a camera's name and its JPEG, on the camera's thread."""


class PictureReading(NamedTuple):
    """What is known of a camera."""

    received_s: float | None  # this machine's monotonic clock; None: no picture yet
    problem: str | None


class PictureFeed:
    """A thread for each camera: one that fails or is slow leaves the others alone.

    Args:
        connect: makes a connection to the robot server.
        sizes: height and width by the camera's name.
        publish: gets each new picture.
        is_watched: set while somebody looks.
    """

    def __init__(
        self,
        connect: Callable[[], RobotConnection],
        sizes: Mapping[str, tuple[int, int]],
        publish: Publish,
        is_watched: threading.Event,
        clock: Clock = time.monotonic,
    ) -> None:
        self._connect = connect
        self._sizes = sizes
        self._publish = publish
        self._is_watched = is_watched
        self._clock = clock
        self._connection = connect()
        self._finder = Repeating("camera-finder", self._find, LOOK_FOR_CAMERAS_S, is_watched, self._connection.close)
        self._cameras: dict[str, _CameraThread] = {}

    @property
    def newest(self) -> dict[str, PictureReading]:
        """What is known of each camera, by name."""
        return {name: camera.newest for name, camera in self._cameras.copy().items()}

    def start(self) -> None:
        """Begin to look for cameras, and to fetch their pictures."""
        self._finder.start()

    def end(self) -> None:
        """Fetch no more."""
        self._finder.end()
        for camera in self._cameras.copy().values():
            camera.thread.end()

    def _find(self) -> None:
        try:
            names = self._connection.get("/v1/cameras", CameraNames).names
        except RobotError as error:
            logger.debug("no cameras: %s", error)
            return
        for name in set(self._cameras) - set(names):
            self._cameras.pop(name).thread.end()
        for name in names:
            if name not in self._cameras:
                self._cameras[name] = self._start(name)

    def _start(self, name: str) -> "_CameraThread":
        height, width = self._sizes.get(name, SIZE)
        path = f"/v1/cameras/{quote(name, safe='')}?height={height}&width={width}&format=jpeg"
        camera = _CameraThread(name, path, self._connect(), self._publish, self._is_watched, self._clock)
        camera.thread.start()
        return camera


class _CameraThread:
    def __init__(
        self,
        name: str,
        path: str,
        connection: RobotConnection,
        publish: Publish,
        is_watched: threading.Event,
        clock: Clock,
    ) -> None:
        self.newest = PictureReading(None, None)
        self.thread = Repeating(f"camera-{name}", self._fetch, PERIOD_S, is_watched, connection.close)
        self._name = name
        self._path = path
        self._connection = connection
        self._publish = publish
        self._clock = clock
        self._stamp: str | None = None

    def _fetch(self) -> None:
        try:
            answer = self._connection.ask("GET", self._path)
        except RobotError as error:
            self.newest = self.newest._replace(problem=str(error))
            time.sleep(PAUSE_AFTER_FAILURE_S)
            return
        self.newest = PictureReading(self._clock(), None)
        stamp = answer.headers.get(STAMP_HEADER)
        if stamp is None or stamp != self._stamp:  # a lockstep simulation that stands still shows the same again
            self._stamp = stamp
            self._publish(self._name, answer.body)
