"""The exposure of a RealSense camera's colour sensor: fixed in microseconds, or automatic."""

import math
from typing import Any

from actors.cameras.librealsense import librealsense
from serl_core.errors import ConfigError

UNIT_US = {"RGB Camera": 100.0}  # a colour sensor counts as UVC does, in 0.1 ms; a stereo one, also in colour, in 1 us


def set_exposure(sensor: Any, exposure_us: float | None) -> None:
    """Fix the exposure, or leave it to the camera: what another program set stays in it until it is unplugged.

    Args:
        exposure_us: None is automatic, where the sensor can do that.

    Raises:
        ConfigError: as `exposure_value`.
    """
    option = librealsense().option
    value = None if exposure_us is None else exposure_value(sensor, exposure_us)
    automatic = option.enable_auto_exposure
    if sensor.supports(automatic) and not sensor.is_option_read_only(automatic):
        sensor.set_option(automatic, float(exposure_us is None))
    if value is not None:
        sensor.set_option(option.exposure, value)


def exposure_value(sensor: Any, exposure_us: float) -> float | None:
    """Return an exposure in the sensor's own unit and steps; None for a recording, made with just this one.

    Raises:
        ConfigError: the sensor has no such option or not that value, or the recording was made with another.
    """
    option, unit_us = librealsense().option.exposure, unit(sensor)
    remedy = "leave CameraConfig.exposure_us out"
    if not sensor.supports(option):
        raise ConfigError(f"it has no exposure that could be set to {exposure_us:g} us; {remedy}")
    allowed = sensor.get_option_range(option)
    if sensor.is_option_read_only(option):
        recorded_us = sensor.get_option(option) * unit_us
        if not math.isclose(recorded_us, exposure_us):
            raise ConfigError(
                f"it was recorded with an exposure of {recorded_us:g} us, got {exposure_us:g} us; {remedy}, or record "
                f"again"
            )
        return None
    low_us, high_us = allowed.min * unit_us, allowed.max * unit_us
    if not low_us <= exposure_us <= high_us:
        raise ConfigError(
            f"its exposure must be {low_us:g} to {high_us:g} us, got {exposure_us:g} us; correct "
            f"CameraConfig.exposure_us"
        )
    steps = round((exposure_us / unit_us - allowed.min) / allowed.step)
    return float(min(allowed.min + steps * allowed.step, allowed.max))


def unit(sensor: Any) -> float:
    """Return how many microseconds one of a sensor's own units of exposure is."""
    return UNIT_US.get(sensor.get_info(librealsense().camera_info.name), 1.0)
