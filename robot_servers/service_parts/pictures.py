"""The pictures of the cameras at the robot, which only some backends have."""

from robot_servers.backend import CameraBackend, RobotBackend
from robot_servers.limits import Refusal, check_range
from serl_core.errors import RobotError
from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import MAX_PIXELS, MIN_PIXELS, CameraNames


class Pictures:
    """Takes none of the locks that commands wait for."""

    def __init__(self, backend: RobotBackend) -> None:
        """Store."""
        self._backend = backend

    def names(self) -> CameraNames:
        """Return the names of the cameras."""
        backend = self._backend
        return CameraNames(names=backend.cameras if isinstance(backend, CameraBackend) else ())

    def newest(self, name: str, height: int, width: int) -> CameraImage:
        """Return the newest picture of a camera."""
        backend, names = self._backend, self.names().names
        if not isinstance(backend, CameraBackend) or name not in names:
            there = ", ".join(names) or "no cameras"
            detail = f"no camera {name[:32]!r}; backend {backend.name!r} has {there}"
            raise Refusal(404, "no_camera", detail, field="name", given=name[:32], limit=list(names))
        check_range("height", height, MIN_PIXELS, MAX_PIXELS)
        check_range("width", width, MIN_PIXELS, MAX_PIXELS)
        try:
            return backend.camera(name, height, width)
        except RobotError as error:
            raise Refusal(503, "no_picture", str(error), field="name", given=name) from None
