"""The cameras at the robot server: the simulator's, over HTTP or in process."""

import time
from collections.abc import Callable

from actors.cameras.interface import Frame, flaw
from actors.cameras.threaded import CameraThread
from serl_core.clock import Clock
from serl_core.errors import CameraFault, ConfigError, RobotError
from serl_core.robots.interface import Robot

POLL_HZ = 30.0


class RobotCamera:
    """A camera of a robot in lockstep: each `latest` asks for the picture of the present state, and waits for it.

    That blocks nothing: simulated time stands still meanwhile.

    Args:
        device: the camera's name at the robot.
        height, width: of the picture to ask for, in pixels.
    """

    def __init__(self, robot: Robot, device: str, height: int, width: int, *, now: Clock = time.monotonic) -> None:
        self._robot, self._device = robot, device
        self._height, self._width = height, width
        self._now = now
        self._problem: str | None = None

    def open(self) -> None:
        """Ask for one picture.

        Raises:
            ConfigError: the robot refuses: it has no camera of that name, or none of that size.
        """
        try:
            self.read()
        except RobotError as error:
            if error.status in (404, 422):
                raise ConfigError(
                    f"camera {self._device!r} at the robot: {error}; correct CameraConfig.device"
                ) from error
        except CameraFault:
            pass  # it may come back; until then `problem` says so

    def close(self) -> None:
        """There is nothing to close: the robot stays open."""

    def latest(self) -> Frame | None:
        """Return the picture of the present state; None if the robot gives none.

        It is new however long it took: the state is still that one.
        """
        try:
            frame = self.read()
        except (RobotError, CameraFault) as error:
            self._problem = str(error)
            return None
        self._problem = flaw(frame.image)
        return frame._replace(captured_s=self._now()) if self._problem is None else None

    def problem(self) -> str | None:
        """Return what the robot said last, if it gave no picture."""
        return self._problem

    def read(self) -> Frame:
        """Return the robot's newest picture, captured when it was asked for at the earliest.

        Raises:
            RobotError: it gives none.
            CameraFault: it gives one of another size.
        """
        asked_s = self._now()
        image, stamp_s = self._robot.camera(self._device, self._height, self._width)
        expected = (self._height, self._width, 3)
        if image.shape != expected:
            raise CameraFault(f"the robot gives pictures of shape {image.shape}, {expected} was asked for")
        return Frame(image, asked_s, stamp_s)


class PolledRobotCamera(CameraThread):
    """A camera of a robot in real time: a thread asks for the newest picture 30 times a second."""

    def __init__(
        self,
        camera: RobotCamera,
        name: str,
        *,
        now: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(name, _RobotSource(camera, sleep), has_noise=False, now=now)
        self._camera = camera

    def open(self) -> None:
        """Ask for one picture, then start the thread.

        Raises:
            ConfigError: the robot has no camera of that name, or none of that size.
        """
        self._camera.open()
        super().open()


class _RobotSource:
    def __init__(self, camera: RobotCamera, sleep: Callable[[float], None]) -> None:
        self._camera = camera
        self._sleep = sleep

    def open(self) -> None:
        """There is nothing to open: the robot is connected."""

    def read(self) -> Frame:
        """Wait for a tick and return the robot's newest picture."""
        self._sleep(1.0 / POLL_HZ)
        return self._camera.read()

    def close(self) -> None:
        """There is nothing to close."""
