"""The image part of a task's configuration: cameras, what is cut out of their frames, and the encoder."""

import math
import re
from dataclasses import dataclass
from enum import Enum

from serl_core.errors import ConfigError
from serl_core.ranges import above_zero

NAME = re.compile(r"\A[0-9A-Za-z_-]{1,32}\Z")  # of cameras and images: becomes part of file and array names
MAX_CAPTURE = 4096  # pixels of a captured frame's side
REALSENSE_FIELDS = ("capture_hz", "exposure_us", "depth_m", "playback_file")  # of CameraConfig


class CameraSource(Enum):
    """Where a camera's frames come from."""

    ROBOT = "robot"  # the robot server's cameras: the simulator's
    UVC = "uvc"  # a webcam, or a video file
    REALSENSE = "realsense"  # an Intel RealSense, or a recording of one


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A named rectangle of a captured frame, in its pixels; row 0 is at the top."""

    name: str
    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.left < 0 or self.top < 0 or self.width < 1 or self.height < 1:
            raise ConfigError(
                f"Crop {self.name!r}: left and top must be at least 0, width and height at least 1, got left "
                f"{self.left}, top {self.top}, width {self.width}, height {self.height}"
            )


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """One camera, and the images that the policy gets of it: each crop, or else the whole frame."""

    name: str  # of the image too, when there is no crop
    source: CameraSource = CameraSource.ROBOT
    device: str = ""  # its name at the robot server, device path or number, file, or serial number; `name` if empty
    height: int = 128  # of the images
    width: int = 128
    capture: tuple[int, int] | None = None  # height and width asked of the device; None: its own
    crops: tuple[Crop, ...] = ()
    max_age_s: float = 0.5  # an older frame ends the episode
    capture_hz: int | None = None  # the rest is RealSense's: frames per second asked of the device; None: its own
    exposure_us: float | None = None  # fixed; None: automatic
    depth_m: tuple[float, float] | None = None  # nearest and farthest of the depth images; None: there are none
    playback_file: str | None = None  # a recording that takes the device's place, over and over

    def __post_init__(self) -> None:
        above_zero(f"CameraConfig.max_age_s of {self.name!r}", self.max_age_s, "s")
        for side, pixels in (("height", self.height), ("width", self.width)):
            if not 16 <= pixels <= 1024:
                raise ConfigError(f"CameraConfig.{side} of {self.name!r}: must be 16 to 1024 pixels, got {pixels}")
        if self.capture is not None and not all(16 <= pixels <= MAX_CAPTURE for pixels in self.capture):
            raise ConfigError(
                f"CameraConfig.capture of {self.name!r}: must be a height and a width of 16 to {MAX_CAPTURE} pixels, "
                f"or None, got {self.capture}"
            )
        self._check_realsense()

    def _check_realsense(self) -> None:
        of = f" of {self.name!r}"
        for field_name in REALSENSE_FIELDS:
            if self.source is not CameraSource.REALSENSE and (value := getattr(self, field_name)) is not None:
                raise ConfigError(
                    f"CameraConfig.{field_name}{of}: only CameraSource.REALSENSE has it and the source is "
                    f"{self.source.value!r}, got {value!r}; leave it out"
                )
        if self.capture_hz is not None and self.capture_hz < 1:
            raise ConfigError(f"CameraConfig.capture_hz{of}: must be at least 1 Hz or None, got {self.capture_hz}")
        if self.exposure_us is not None:
            above_zero(f"CameraConfig.exposure_us{of}", self.exposure_us, "us")
        if self.depth_m is not None and not 0.0 <= self.depth_m[0] < self.depth_m[1] < math.inf:
            raise ConfigError(
                f"CameraConfig.depth_m{of}: must be a nearest and a farther distance of at least 0 m or None, got "
                f"{self.depth_m} m"
            )

    @property
    def picture_names(self) -> tuple[str, ...]:
        """The names of the colour images, in order."""
        return tuple(crop.name for crop in self.crops) or (self.name,)

    @property
    def image_names(self) -> tuple[str, ...]:
        """The names of the images, in order: of the colour images, then of their depth images if there are any."""
        depths = map(depth_name, self.picture_names) if self.depth_m else ()
        return (*self.picture_names, *depths)


def depth_name(image: str) -> str:
    """Return the name of the depth image that belongs to a colour image."""
    return f"{image}_depth"


class EncoderKind(Enum):
    """The frozen network that turns an image into features."""

    AUTO = "auto"  # ResNet-10 where its weights are, else the small one
    SMALL = "small"  # comes with the package, trained on the simulator's images
    RESNET10 = "resnet10"  # HIL-SERL's, with its ImageNet weights
    RANDOM = "random"  # the small one's shape, untrained: to compare with


class ImageMode(Enum):
    """What the learner keeps of an image."""

    FEATURES = "features"  # what the actor's encoder made of it, once
    PIXELS = "pixels"  # the image, encoded anew in each update after a random shift, as in the paper


class FrameFormat(Enum):
    """How images are kept in the log."""

    PNG = "png"  # lossless
    JPEG = "jpeg"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """How images become numbers."""

    kind: EncoderKind = EncoderKind.AUTO
    weights: str | None = None  # a safetensors file instead of the kind's usual one
    mode: ImageMode = ImageMode.FEATURES
    copies: int = 1  # in features mode: of each image, the first as it is, the others shifted at random
    log_format: FrameFormat = FrameFormat.PNG

    def __post_init__(self) -> None:
        if not 1 <= self.copies <= 3:
            raise ConfigError(f"EncoderConfig.copies: must be 1 to 3, got {self.copies}")
