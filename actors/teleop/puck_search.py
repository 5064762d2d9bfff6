"""Finds a SpaceMouse among the HID devices of this machine, or says what is in the way."""

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Protocol

from serl_core.errors import ConfigError

UDEV_RULE = "docker/udev/99-spacemouse.rules"
REPORT_BYTES = 64
MULTI_AXIS = (1, 8)  # HID usage page and usage of a six-axis controller


class Hid(Protocol):
    """A HID device as easyhid lists and opens it."""

    path: str
    vendor_id: int
    product_id: int
    serial_number: str | None
    product_string: str | None
    usage_page: int
    usage: int

    def open(self) -> None:
        """Open it."""

    def close(self) -> None:
        """Close it."""

    def read(self, size: int = REPORT_BYTES, timeout: int | None = None) -> bytearray:
        """Wait `timeout` ms for a report; return it, or nothing."""


def connected_hids() -> list[Hid]:
    """Return every HID device of this machine.

    Raises:
        ConfigError: a library is not installed.
    """
    try:
        return list(library_of("easyhid").Enumeration().device_list)
    except AttributeError:  # easyhid looks for the functions of hidapi in this process then
        raise ConfigError(
            "SpaceMouse: the system library hidapi is missing; install it, on Debian and Ubuntu with "
            "`sudo apt-get install libhidapi-hidraw0`"
        ) from None


def six_axis(hids: list[Hid], known: set[tuple[int, int]]) -> list[Hid]:
    """Return the SpaceMice among `hids`, each once: a wireless receiver is listed several times, as a keyboard too."""
    ours = [hid for hid in hids if (hid.vendor_id, hid.product_id) in known]
    by_path = {hid.path: hid for hid in ours}
    axes = {hid.path: hid for hid in ours if (hid.usage_page, hid.usage) == MULTI_AXIS}
    return list((axes or by_path).values())


def choose(pucks: list[Hid], device: str | None) -> Hid:
    """Return the device of that serial number or path, or the only one if none is asked for.

    Raises:
        ConfigError: there is no such device, or not just one.
    """
    there = ", ".join(f"{puck.path} (serial number {puck.serial_number or 'none'})" for puck in pucks) or "none"
    if device is not None:
        pucks = [puck for puck in pucks if device in (puck.serial_number, puck.path) or _is_path(device, puck.path)]
    if len(pucks) == 1:
        return pucks[0]
    if device is None and not pucks:
        raise ConfigError("SpaceMouse: none is connected; plug one in, or choose another --teleop")
    if device is None:
        raise ConfigError(f"SpaceMouse: several are connected; name one by serial number or path, of {there}")
    raise ConfigError(
        f"SpaceMouse {device}: {'not connected' if not pucks else 'not the only one of that number'}; there are {there}"
    )


def _is_path(device: str, path: str) -> bool:
    return device.startswith("/") and Path(device).resolve() == Path(path).resolve()


def why_closed(hid: Hid) -> str:
    """Return why a device could not be opened, and what helps."""
    if os.access(hid.path, os.F_OK) and not os.access(hid.path, os.R_OK | os.W_OK):
        return (
            f"SpaceMouse {hid.path}: this user may not open it; copy {UDEV_RULE} to /etc/udev/rules.d, run "
            "`sudo udevadm control --reload`, and plug the device in again"
        )
    return f"SpaceMouse {hid.path}: cannot be opened; plug it in again, and end other programs that use it"


def library_of(name: str) -> ModuleType:
    """Return an imported library of the extra `spacemouse`. Raises ConfigError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"SpaceMouse: the package {error.name!r} is missing; install it with pip install 'serl[spacemouse]'"
        ) from None
