"""What the actor sees: the cameras' newest pictures, cropped and resized, and what is made of them once."""

import contextlib
import operator
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from actors.cameras.depth import unstack
from actors.cameras.interface import Camera, Frame
from actors.cameras.realsense import RealSenseCamera, RealSenseSource
from actors.cameras.robot import PolledRobotCamera, RobotCamera
from actors.cameras.uvc import UvcCamera
from serl_core.clock import Clock
from serl_core.config import ObservationConfig
from serl_core.envs.vision import Sight
from serl_core.errors import CameraFault, ConfigError
from serl_core.image_config import CameraConfig, CameraSource, Crop, depth_name
from serl_core.robots.interface import Robot
from serl_core.robots.pictures import opencv

Image = NDArray[np.uint8]  # [h w 3], RGB
Features = NDArray[np.float16]
Encode = Callable[[dict[str, Image]], dict[str, Features]]
Classify = Callable[[dict[str, Image], dict[str, Features]], float]
MakeCamera = Callable[[CameraConfig, Robot, Clock], Camera]

FIRST_FRAMES_S = 5.0  # how long cameras may take to start
CROPPED_SIZE = (480, 640)  # CameraConfig.capture of the robot's cameras, where crops are taken of them


class CameraVision:
    """The cameras of a task as `serl_core.envs.vision.Vision`. The constructor touches no camera.

    Args:
        encode: the frozen encoder: all images by name to their features by name, once for each new picture.
        classify: the reward classifier: images and features to the probability of success.
        success_threshold: of that probability.
        now: this machine's monotonic clock.
        make: the camera of a config; by default its source decides.

    Raises:
        ConfigError: only one of `classify` and `success_threshold` is given.
    """

    def __init__(
        self,
        config: ObservationConfig,
        *,
        encode: Encode | None = None,
        classify: Classify | None = None,
        success_threshold: float | None = None,
        now: Clock = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        make: MakeCamera | None = None,
    ) -> None:
        if (classify is None) != (success_threshold is None):
            raise ConfigError(
                f"CameraVision: a classifier and its success_threshold come together, got threshold {success_threshold}"
            )
        self.success_threshold = success_threshold
        self._config = config
        self._encode, self._classify = encode, classify
        self._now, self._sleep = now, sleep
        self._make = make or make_camera
        self._cameras: dict[str, Camera] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}  # of each camera's frames
        self._frames: list[Frame] = []  # of each camera, those that the newest sight is made of
        self._sight: Sight | None = None

    def open(self, robot: Robot) -> None:
        """Start the cameras and wait until each gives frames that the config's crops fit.

        Raises:
            ConfigError: a camera, or a crop of it, that does not exist. No camera stays open.
            CameraFault: a camera gives no fresh frame within 5 s. No camera stays open.
        """
        with contextlib.ExitStack() as opened:
            opened.callback(self.close)
            for config in self._config.cameras:
                camera = self._make(config, robot, self._now)
                self._cameras[config.name] = camera
                camera.open()
            self._interpret(self._first_frames())  # now: what compiles takes seconds, and must not hold up a step
            opened.pop_all()

    def close(self) -> None:
        """Stop the cameras. Safe to call twice."""
        with contextlib.ExitStack() as closing:
            for camera in self._cameras.values():
                closing.callback(camera.close)
            self._cameras, self._shapes = {}, {}
            self._frames, self._sight = [], None

    def look(self) -> Sight:
        """Return the newest images, their features and the probability of success; the images are read-only.

        While no camera has a new frame it is the very same object as before, and nothing is encoded again. A
        robot in lockstep gives a new frame at each look.

        Raises:
            CameraFault: a camera's newest frame is too old, of another size, or there is none. The
                cameras stay open: a later look succeeds as soon as the frames are fresh again.
        """
        return self._interpret(self._newest_frames())

    def newest_frames(self) -> dict[str, Frame]:
        """Return the cameras' newest frames by name, however old, without waiting; also on another thread.

        Of a camera at the robot it is the one that was looked at last.
        """
        looked_at = dict(zip([config.name for config in self._config.cameras], self._frames, strict=False))
        here = [config.name for config in self._config.cameras if config.source is not CameraSource.ROBOT]
        frames = {name: camera.latest() for name in here if (camera := self._cameras.get(name)) is not None}
        return {name: frame for name, frame in (looked_at | frames).items() if frame is not None}

    def _interpret(self, frames: list[Frame]) -> Sight:
        if self._sight is not None and all(map(operator.is_, frames, self._frames)):
            return self._sight
        images = {
            name: image
            for config, frame in zip(self._config.cameras, frames, strict=True)
            for name, image in cut(frame.image, config).items()
        }
        features = self._encode(images) if self._encode else {}
        probability = float(self._classify(images, features)) if self._classify else None
        captured_s = min((frame.captured_s for frame in frames), default=None)
        self._frames, self._sight = frames, Sight(images, features, probability, captured_s)
        return self._sight

    def _first_frames(self) -> list[Frame]:
        give_up_s = self._now() + FIRST_FRAMES_S
        while True:
            try:
                return self._newest_frames()
            except CameraFault:
                if self._now() >= give_up_s:
                    raise
            self._sleep(0.02)

    def _newest_frames(self) -> list[Frame]:
        return [self._fresh(config) for config in self._config.cameras]

    def _fresh(self, config: CameraConfig) -> Frame:
        """Return a camera's newest frame, if it is fresh and of the size it has always been."""
        camera = self._cameras.get(config.name)
        if camera is None:
            raise CameraFault(f"camera {config.name!r}: it is not open; call open() first")
        frame = camera.latest()
        why = f" ({problem})" if (problem := camera.problem()) else ""
        remedy = "check the camera and its cable; the arm holds until its picture is back"
        if frame is None:
            raise CameraFault(f"camera {config.name!r}: there is no picture{why}; {remedy}")
        age_s = self._now() - frame.captured_s
        if age_s > config.max_age_s:
            raise CameraFault(
                f"camera {config.name!r}: its newest picture is {age_s:.2f} s old, at most {config.max_age_s} s is "
                f"allowed{why}; {remedy}"
            )
        shape = self._shapes.setdefault(config.name, frame.image.shape)
        if frame.image.shape != shape:
            raise CameraFault(
                f"camera {config.name!r}: its pictures are now of shape {frame.image.shape}, they were {shape}; "
                f"set the camera back, or start again"
            )
        return frame


def make_camera(config: CameraConfig, robot: Robot, now: Clock) -> Camera:
    """Return the camera that a config describes, not open yet."""
    device = config.device or config.name
    match config.source:
        case CameraSource.ROBOT:
            height, width = config.capture or (CROPPED_SIZE if config.crops else (config.height, config.width))
            camera = RobotCamera(robot, device, height, width, now=now)
            return camera if robot.health().clock == "lockstep" else PolledRobotCamera(camera, config.name, now=now)
        case CameraSource.UVC:
            return UvcCamera(config.name, device, size=config.capture, now=now)
        case CameraSource.REALSENSE:
            source = RealSenseSource(
                device,
                size=config.capture,
                rate_hz=config.capture_hz,
                exposure_us=config.exposure_us,
                depth_m=config.depth_m,
                playback_file=config.playback_file,
                now=now,
            )
            return RealSenseCamera(config.name, source, now=now)


def cut(frame: Image, config: CameraConfig, *, blend: bool = True) -> dict[str, Image]:
    """Return the images that a config makes of a captured frame [h w 3], by name and in its order; read-only.

    Raises:
        ConfigError: a crop leaves the frame.
    """
    if config.depth_m is not None:
        picture, depth = unstack(frame)
        colour = replace(config, depth_m=None)
        depths = cut(depth, colour, blend=False)
        return cut(picture, colour) | {depth_name(name): image for name, image in depths.items()}
    height, width = frame.shape[:2]
    crops = config.crops or (Crop(name=config.name, left=0, top=0, width=width, height=height),)
    images = {}
    for crop in crops:
        right, bottom = crop.left + crop.width, crop.top + crop.height
        if right > width or bottom > height:
            raise ConfigError(
                f"Crop {crop.name!r} of camera {config.name!r}: columns {crop.left} to {right} and rows {crop.top} to "
                f"{bottom} leave the frame of {width} columns and {height} rows; move or shrink the crop"
            )
        images[crop.name] = resize(frame[crop.top : bottom, crop.left : right], config.height, config.width, blend)
    return images


def resize(image: Image, height: int, width: int, blend: bool = True) -> Image:
    """Return `image` [h w 3] at another size, read-only: itself if it has it, by area when shrinking, else linear.

    Args:
        blend: otherwise each pixel is the nearest one of `image`: between two depths there is nothing.
    """
    if image.shape[:2] == (height, width):
        resized: Image = np.ascontiguousarray(image)
    else:
        cv2 = opencv("Pictures of another size than the camera's")
        shrinks = height <= image.shape[0] and width <= image.shape[1]
        smooth = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        resized = cv2.resize(image, (width, height), interpolation=smooth if blend else cv2.INTER_NEAREST)
    resized.flags.writeable = False
    return resized
