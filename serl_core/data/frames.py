"""Images compressed for the log, and back: PNG or JPEG, one array of bytes each, told apart by what they begin with."""

import struct

import numpy as np
from jaxtyping import UInt8

from serl_core.errors import DataError
from serl_core.image_config import FrameFormat
from serl_core.robots.messages import PictureFormat
from serl_core.robots.pictures import pack, unpack

MAX_SIDE = 1024  # pixels; as `CameraConfig` allows. Checked before anything is decoded.

MAX_BYTES = 32 * 2**20  # of all images of an observation, decoded; likewise

Images = dict[str, UInt8[np.ndarray, "_ _ 3"]]  # RGB, by name
Frames = dict[str, UInt8[np.ndarray, " _"]]  # the bytes of a PNG or JPEG file, by name

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_NO_SIZE = (0xC4, 0xC8, 0xCC)  # markers among 0xC0 to 0xCF that begin no frame


def compress(images: Images, form: FrameFormat) -> Frames:
    """Return each image compressed: PNG loses nothing and is the smaller one on rendered pictures, JPEG on noisy ones.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    wire_form = PictureFormat(form.value)
    return {name: np.frombuffer(pack(image, wire_form), np.uint8) for name, image in images.items()}


def decompress(frames: Frames) -> Images:
    """Return the images of `frames`, RGB and read-only.

    Raises:
        DataError: a frame is no whole PNG or JPEG, a side is longer than `MAX_SIDE`, or all exceed `MAX_BYTES`.
        ConfigError: OpenCV is not installed.
    """
    found = {name: frame.tobytes() for name, frame in frames.items()}
    declared = sum(3 * height * width for _, (height, width) in (_header(*entry) for entry in found.items()))
    if declared > MAX_BYTES and len(found) > 1:  # a single one is bounded by its sides
        raise DataError(f"frames {sorted(found)}: they declare {declared} bytes of pixels, {MAX_BYTES} bytes at most")
    return {name: _decode(name, data) for name, data in found.items()}


def _decode(name: str, data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    form, (height, width) = _header(name, data)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise DataError(
            f"frame of {name!r}: sides must be 1 to {MAX_SIDE} pixels, got {height} x {width}; the data is corrupt"
        )
    try:
        return unpack(data, form, height, width)
    except ValueError as error:
        raise DataError(f"frame of {name!r}: {error}; the data is corrupt") from None


def _header(name: str, data: bytes) -> tuple[PictureFormat, tuple[int, int]]:
    """Return what a frame says it is: its format, height and width."""
    try:
        if data.startswith(_PNG_START) and data.endswith(_PNG_END):
            width, height = struct.unpack_from(">II", data, 16)
            return PictureFormat.PNG, (height, width)
        if data.startswith(_JPEG_START) and data.endswith(_JPEG_END):
            return PictureFormat.JPEG, _jpeg_size(data)
    except (struct.error, IndexError):
        pass
    raise DataError(f"frame of {name!r}: its {len(data)} bytes are no whole PNG or JPEG; the data is corrupt")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return height and width from the first frame header (ITU-T T.81, B.2.2)."""
    place = 2
    while True:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return height, width
        (length,) = struct.unpack_from(">H", data, place + 2)
        place += 2 + length
