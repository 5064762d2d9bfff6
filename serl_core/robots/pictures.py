"""Pictures on the wire between a robot server and its clients: raw RGB bytes, JPEG or PNG."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from serl_core.errors import ConfigError
from serl_core.robots.messages import PictureFormat

JPEG_QUALITY = 95  # edges of a few pixels are what a policy aligns by
PNG_LEVEL = 1  # on rendered pictures higher levels cost more time than they save bytes


def pack(image: UInt8[np.ndarray, "h w 3"], form: PictureFormat) -> bytes:
    """Return the bytes of an RGB picture.

    Raises:
        ConfigError: JPEG or PNG without OpenCV.
    """
    if form is PictureFormat.RAW:
        return image.tobytes()
    cv2 = opencv()
    options = {
        PictureFormat.JPEG: [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        PictureFormat.PNG: [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL],
    }[form]
    _, data = cv2.imencode(f".{form.value}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return bytes(data)


def unpack(data: bytes, form: PictureFormat, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Return the RGB picture in `data`, read-only.

    Raises:
        ValueError: it is no picture of that size.
        ConfigError: JPEG or PNG without OpenCV.
    """
    if form is PictureFormat.RAW:
        image = np.frombuffer(data, np.uint8).reshape(height, width, 3)
    else:
        cv2 = opencv()
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        if decoded is None or decoded.shape != (height, width, 3):
            raise ValueError(f"{len(data)} bytes are no {form.value} picture of {height} x {width} pixels")
        image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        image.flags.writeable = False
    return image


def opencv(what: str = "JPEG and PNG pictures") -> Any:
    """Return OpenCV's module, imported only now: what learns from state or from raw pictures runs without it.

    Raises:
        ConfigError: it is not installed; the message says that `what` need it.
    """
    try:
        import cv2
    except ImportError:
        raise ConfigError(f"{what} need OpenCV, which is not installed; run pip install 'serl[vision]'") from None
    return cv2
