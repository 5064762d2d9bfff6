"""Intel RealSense cameras, by serial number, and recordings of them."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from actors.cameras.depth import depth_picture, stack
from actors.cameras.interface import Frame, flaw
from actors.cameras.librealsense import Devices, connected, find, librealsense, recording
from actors.cameras.realsense_exposure import exposure_value, set_exposure
from actors.cameras.realsense_modes import Mode, colour_sensor, require_mode
from actors.cameras.threaded import CameraThread
from serl_core.clock import Clock
from serl_core.errors import CameraFault, ConfigError

WAIT_S = 1.0  # for a picture
SLICE_S = 0.05  # of it, between two looks whether a recording is at its end
APART = 0.75  # of a period: how far a depth picture may be from its colour picture; one further off is another's


class RealSenseCamera(CameraThread):
    """A RealSense camera in a thread of its own.

    Args:
        name: for messages.
    """

    def __init__(self, name: str, source: "RealSenseSource", *, now: Clock = time.monotonic) -> None:
        super().__init__(name, source, now=now)
        self._realsense = source

    def open(self) -> None:
        """Look whether the camera is there and can do what is asked of it, then start the thread.

        Raises:
            ConfigError: it is not there, may not be used, or cannot; or librealsense is not installed.
            CameraFault: it fails meanwhile.
        """
        self._realsense.check()
        super().open()


class RealSenseSource:
    """librealsense's pipeline as a `Source`.

    With depth a frame is twice as high: the depth picture, aligned to the colour picture, lies below it.

    Args:
        serial: of the camera; of no account with a recording.
        size: (height, width) to capture, in pixels; None is the device's own.
        rate_hz: frames per second to capture; None is the device's own.
        exposure_us: fixed exposure of the colour sensor; None is automatic.
        depth_m: nearest and farthest distance that the depth picture tells apart; None for no depth.
        playback_file: a recording, .db3 or .bag, played over and over at its own rate in place of the camera.
        devices: the cameras that are there, by serial number.
    """

    def __init__(
        self,
        serial: str,
        *,
        size: tuple[int, int] | None = None,
        rate_hz: int | None = None,
        exposure_us: float | None = None,
        depth_m: tuple[float, float] | None = None,
        playback_file: str | None = None,
        now: Clock = time.monotonic,
        devices: Devices = connected,
    ) -> None:
        self._serial = serial
        self._height, self._width = size or (0, 0)  # 0 is librealsense's word for its own choice
        self._rate_hz = rate_hz or 0
        self._exposure_us, self._depth_m = exposure_us, depth_m
        self._playback_file = playback_file
        self._now, self._devices = now, devices
        self._pipeline: Any = None
        self._playback: Any = None  # of the pipeline's device, if it is a recording
        self._align: Any = None
        self._apart_ms = 0.0
        self._stamp_ms: float | None = None  # of the newest frame

    def check(self) -> None:
        """Ask the device for what will be asked of it, without starting it.

        Raises:
            ConfigError: it can never give such a frame.
            CameraFault: it fails meanwhile.
        """
        with self._told():
            self._checked_device()

    def open(self) -> None:
        """Start the device.

        Raises:
            ConfigError: it is not there, or cannot do what is asked of it.
            CameraFault: librealsense cannot start it.
        """
        with self._told():
            self._start(self._checked_device())

    def read(self) -> Frame:
        """Wait a second at most for the next picture; its stamp is the camera's own time.

        Raises:
            CameraFault: there is none.
        """
        give_up_s = self._now() + WAIT_S
        with self._told():
            while (left_s := give_up_s - self._now()) > 0.0:
                is_there, frames = self._pipeline.try_wait_for_frames(max(1, round(1000.0 * min(left_s, SLICE_S))))
                came_s = self._now()
                if not is_there:
                    self._rewind()
                elif (stamp_ms := self._new_stamp_ms(frames)) is not None:
                    self._stamp_ms = stamp_ms
                    return Frame(self._image(frames), came_s, stamp_ms / 1000.0)
            kind = "colour pictures with their depth" if self._depth_m else "colour pictures"
            raise CameraFault(f"it gives no {kind} for {WAIT_S:g} s; is it unplugged?")

    def close(self) -> None:
        """Stop the device."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.stop()

    def _checked_device(self) -> Any:
        """Return the device, if it can do what is asked of it."""
        path = self._playback_file
        device = find(self._serial, self._devices) if path is None else recording(path)
        require_mode(device, "colour", Mode(self._height, self._width, self._rate_hz))
        if self._depth_m is not None:
            require_mode(device, "depth", Mode(0, 0, self._rate_hz))
        if self._exposure_us is not None:
            exposure_value(colour_sensor(device), self._exposure_us)
        return device

    def _start(self, device: Any) -> None:
        rs = librealsense()
        pipeline, config = rs.pipeline(), rs.config()
        if self._playback_file is not None:  # once: to stop what librealsense repeats by itself may end the process
            config.enable_device_from_file(self._playback_file, False)
        else:  # not by number: it would wait 15 s for a lost one and hold Python's lock, so no thread could run
            pipeline.set_device(device)
        config.enable_stream(rs.stream.color, self._width, self._height, rs.format.rgb8, self._rate_hz)
        if self._depth_m is not None:
            config.enable_stream(rs.stream.depth, 0, 0, rs.format.z16, self._rate_hz)
        profile = pipeline.start(config)
        self._pipeline, self._playback = pipeline, profile.get_device().as_playback()
        self._align, self._stamp_ms = rs.align(rs.stream.color), None
        self._apart_ms = APART * 1000.0 / profile.get_stream(rs.stream.color).fps()
        set_exposure(colour_sensor(profile.get_device()), self._exposure_us)

    def _rewind(self) -> None:
        """Begin a recording again if it is at its end."""
        if self._playback_file is None or self._playback.current_status() != librealsense().playback_status.stopped:
            return
        self.close()
        self._start(None)

    def _new_stamp_ms(self, frames: Any) -> float | None:
        """Return the time of the colour picture if it is new and, if depth is asked for, comes with its own depth."""
        colour, depth = frames.get_color_frame(), frames.get_depth_frame()
        if not colour:
            return None
        depth_ms = depth.timestamp if depth else math.inf
        is_whole = self._depth_m is None or abs(depth_ms - colour.timestamp) < self._apart_ms
        return float(colour.timestamp) if is_whole and colour.timestamp != self._stamp_ms else None

    def _image(self, frames: Any) -> UInt8[np.ndarray, "h w 3"]:
        if self._depth_m is None:
            return pixels(frames.get_color_frame())
        frames = self._align.process(frames)
        image, depth = pixels(frames.get_color_frame()), frames.get_depth_frame()
        if flaw(image) is not None:  # alone: below a black picture its depth would hide the flaw
            return image
        return stack(image, depth_picture(pixels(depth) * np.float32(depth.get_units()), *self._depth_m))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say of which camera an error is; librealsense's own are RuntimeErrors of all kinds."""
        camera = f"RealSense {self._serial!r}" if self._playback_file is None else f"recording {self._playback_file!r}"
        try:
            yield
        except ConfigError as error:
            raise ConfigError(f"{camera}: {error}") from error
        except (CameraFault, RuntimeError) as error:
            raise CameraFault(f"{camera}: {error}") from error


def pixels(frame: Any) -> NDArray[Any]:
    """Return a frame's pixels in an array of their own: librealsense uses its memory again."""
    return np.array(frame.get_data())
