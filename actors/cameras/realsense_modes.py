"""What a RealSense camera, or a recording of one, can capture."""

from typing import Any, NamedTuple

from actors.cameras.librealsense import librealsense
from serl_core.errors import ConfigError


class Mode(NamedTuple):
    """A size of pictures and their rate."""

    height: int
    width: int
    hz: int

    def __str__(self) -> str:
        return f"({self.height}, {self.width}) at {self.hz} Hz"

    def is_asked(self, asked: "Mode") -> bool:
        """Return whether this is what was asked for; a 0 there is any."""
        return all(want in (0, have) for want, have in zip(asked, self, strict=True))


def require_mode(device: Any, kind: str, asked: Mode) -> None:
    """Refuse what a device cannot capture.

    Args:
        kind: "colour" or "depth".
        asked: a 0 in it is any.

    Raises:
        ConfigError: it has no such mode, with those that it has.
    """
    offered = modes(device, kind)
    if not offered:
        remedy = "leave CameraConfig.depth_m out" if kind == "depth" else "take another camera"
        raise ConfigError(f"it has no {kind} pictures; {remedy}")
    if not any(mode.is_asked(asked) for mode in offered):
        size = f"({asked.height}, {asked.width})" if asked.height else "any size"
        rate = f"{asked.hz} Hz" if asked.hz else "any rate"
        raise ConfigError(
            f"it has no {kind} pictures of {size} at {rate}; there are {', '.join(map(str, offered))}: set "
            f"CameraConfig.capture and capture_hz to one of them (on a USB 2 port or cable there are fewer)"
        )


def modes(device: Any, kind: str) -> list[Mode]:
    """Return what a device can capture of a kind of picture, in the form that the pipeline asks for."""
    rs = librealsense()
    stream, form = {"colour": (rs.stream.color, rs.format.rgb8), "depth": (rs.stream.depth, rs.format.z16)}[kind]
    profiles = [
        profile.as_video_stream_profile()
        for sensor in device.query_sensors()
        for profile in sensor.get_stream_profiles()
        if profile.stream_type() == stream and profile.format() == form
    ]
    return sorted({Mode(profile.height(), profile.width(), profile.fps()) for profile in profiles})


def colour_sensor(device: Any) -> Any:
    """Return the sensor that gives the colour pictures: on some cameras the stereo one.

    Raises:
        ConfigError: there is none.
    """
    colour = librealsense().stream.color
    for sensor in device.query_sensors():
        if any(profile.stream_type() == colour for profile in sensor.get_stream_profiles()):
            return sensor
    raise ConfigError("it has no colour pictures; take another camera")
