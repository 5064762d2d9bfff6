"""Pictures for the operator's console of the cameras that only the actor can read."""

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from actors.cameras.depth import unstack
from actors.cameras.interface import Frame
from serl_core.clock import Clock
from serl_core.image_config import CameraConfig, CameraSource
from serl_core.operator.messages import MAX_JPEG_BYTES, Picture, PictureRequest
from serl_core.robots.pictures import opencv

PERIOD_S = 0.09  # a little below a tenth: ten requests a second come with some jitter
QUALITIES = (80, 50, 20)  # JPEG's; the first one that fits into a message


class OperatorPictures:
    """Answers requests for pictures, about 10 a second for each camera. Used on the link's thread.

    Args:
        frames: the cameras' newest frames by name, without waiting.
        cameras: of the task; those at the robot are the robot server's to show.
    """

    def __init__(
        self,
        frames: Callable[[], Mapping[str, Frame]],
        cameras: tuple[CameraConfig, ...],
        *,
        now: Clock = time.monotonic,
    ) -> None:
        self._frames = frames
        self._cameras = {camera.name: camera for camera in cameras if camera.source is not CameraSource.ROBOT}
        self._now = now
        self._answered_s: dict[str, float] = {}

    def age_s(self) -> dict[str, float]:
        """Return how old each camera's newest frame is, by name."""
        now_s = self._now()
        return {name: now_s - frame.captured_s for name, frame in self._frames().items()}

    def picture(self, request: PictureRequest) -> Picture | None:
        """Return the newest picture of a camera; None if it has none, is not the actor's, or was asked for just now."""
        camera, now_s = self._cameras.get(request.name), self._now()
        if camera is None or now_s - self._answered_s.get(camera.name, -PERIOD_S) < PERIOD_S:
            return None
        frame = self._frames().get(camera.name)
        if frame is None:
            return None
        self._answered_s[camera.name] = now_s
        image = frame.image if camera.depth_m is None else unstack(frame.image)[0]
        jpeg = to_jpeg(image, request.side)
        return None if jpeg is None else Picture(name=camera.name, stamp_s=frame.captured_s, jpeg=jpeg)


def to_jpeg(image: NDArray[np.uint8], side: int) -> bytes | None:
    """Return an RGB picture [h w 3] as JPEG, its longer side at most `side`; None if it fits into no message."""
    cv2 = opencv()
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale < 1.0:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    for quality in QUALITIES:
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if data.nbytes <= MAX_JPEG_BYTES:
            return bytes(data)
    return None
