"""librealsense: its Python package, the cameras that it finds, and why it may not find one."""

import ctypes
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serl_core.errors import ConfigError

UDEV_RULES = "docker/udev/99-realsense.rules"
USB = Path("/sys/bus/usb/devices")  # what is plugged in, readable by everybody
NODES = Path("/dev/bus/usb")  # what librealsense must be able to write to

Devices = Callable[[], dict[str, Any]]  # pyrealsense2 devices by serial number


def librealsense() -> Any:
    """Return the package `pyrealsense2`, imported only now: a machine without such cameras does without it.

    Raises:
        ConfigError: it is not installed, or the USB library that it needs is not.
    """
    try:
        return importlib.import_module("pyrealsense2")
    except ModuleNotFoundError:
        raise ConfigError(
            "RealSense cameras need librealsense, which is not installed; run pip install 'serl[realsense]'"
        ) from None
    except ImportError as error:  # its wheel has no libusb, and the system has none
        try:
            path = importlib.import_module("libusb_package").get_library_path()
            ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)  # the loader now knows it by its name
            return importlib.import_module("pyrealsense2")
        except (ImportError, OSError):
            raise ConfigError(
                f"librealsense cannot be loaded ({error}); run pip install 'serl[realsense]' again, or install the "
                f"system's libusb: apt install libusb-1.0-0"
            ) from error


def connected() -> dict[str, Any]:
    """Return the cameras that are plugged in and may be used, by serial number.

    Raises:
        ConfigError: librealsense is not installed.
        RuntimeError: it cannot look.
    """
    rs = librealsense()
    number = rs.camera_info.serial_number
    found = rs.context().query_devices()
    return {device.get_info(number): device for device in found if device.supports(number)}


def find(serial: str, devices: Devices = connected, *, usb: Path = USB, nodes: Path = NODES) -> Any:
    """Return the camera of a serial number.

    Raises:
        ConfigError: it is not there, with those that are; or this user may not use it. The message does not
            repeat the number.
    """
    try:
        found, why = devices(), ""
    except RuntimeError as error:  # librealsense's only one: also where a device refuses to be opened
        found, why = {}, f" (librealsense: {error})"
    if serial in found:
        return found[serial]
    if refused := forbidden(usb, nodes):
        raise ConfigError(
            f"this user may not write to {', '.join(map(str, refused))}, where a RealSense camera is plugged in{why}; "
            f"copy {UDEV_RULES} to /etc/udev/rules.d, run `sudo udevadm control --reload`, and plug the camera in again"
        )
    if found:
        there = ", ".join(f"{number!r} ({title(device)})" for number, device in sorted(found.items()))
        raise ConfigError(
            f"there is no camera of this serial number; there are {there}: set "
            f"CameraConfig.device to one of them, or plug it in"
        )
    raise ConfigError(
        f"no RealSense camera is there at all{why}; plug it in with its own cable, and end what else uses it"
    )


def recording(path: str) -> Any:
    """Return a recording as a device.

    Raises:
        ConfigError: it cannot be played back.
    """
    remedy = "CameraConfig.playback_file must be a .db3 file, or a .bag of older versions, recorded by librealsense"
    if not Path(path).is_file():
        raise ConfigError(f"there is no such file; {remedy}")
    try:
        return librealsense().context().load_device(path)
    except RuntimeError as error:
        raise ConfigError(f"it cannot be played back ({error}); {remedy}") from error


def forbidden(usb: Path = USB, nodes: Path = NODES) -> list[Path]:
    """Return where RealSense cameras are plugged in that this user may not use."""
    plugged = [device for device in sorted(usb.glob("*")) if "RealSense" in read(device / "product")]
    used = [nodes / read(device / "busnum").zfill(3) / read(device / "devnum").zfill(3) for device in plugged]
    return [node for node in used if not os.access(node, os.R_OK | os.W_OK)]


def title(device: Any) -> str:
    """Return a device's product name."""
    name = librealsense().camera_info.name
    return str(device.get_info(name)) if device.supports(name) else "without a name"


def read(path: Path) -> str:
    """Return a line of /sys; empty if there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
