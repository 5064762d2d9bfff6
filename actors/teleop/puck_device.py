"""A SpaceMouse as a HID device: pyspacemouse decodes what it reports."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from actors.teleop.puck_reading import PuckReading
from actors.teleop.puck_search import Hid, choose, connected_hids, library_of, six_axis, why_closed
from serl_core.clock import Clock
from serl_core.errors import ConfigError

MAX_DRAINED = 64  # reports read at one time: more than the kernel keeps


class PuckDevice:
    """One SpaceMouse. All calls come from one thread at a time.

    Args:
        device: serial number, or path such as /dev/hidraw3 or a link to it. None takes the only one there is.
        hids: lists the HID devices.
    """

    def __init__(
        self,
        device: str | None = None,
        *,
        hids: Callable[[], list[Hid]] = connected_hids,
        now: Clock = time.monotonic,
    ) -> None:
        self._device = device
        self._hids = hids
        self._now = now
        self._hid: _Waiting | None = None
        self._decoder: Any = None
        self._reading = PuckReading()

    def open(self) -> None:
        """Find the device and open it.

        Raises:
            ConfigError: a library or the device is missing, several are there, or it may not be opened.
        """
        library = library_of("pyspacemouse")
        infos = {(info.vendor_id, info.product_id): info for info in library.get_device_specs().values()}
        found = choose(six_axis(self._hids(), set(infos)), self._device)
        info = library.apply_axis_convention(infos[found.vendor_id, found.product_id], library.AxisConvention.HID_Z_UP)
        hid = _Waiting(found)
        decoder = library.SpaceMouseDevice(info=info, device=hid)
        decoder.configure(dof_callback=self._take_motion, button_callback=self._take_buttons)
        try:
            decoder.open()
        except RuntimeError:  # pyspacemouse's, without the reason
            raise ConfigError(why_closed(found)) from None
        self._hid, self._decoder = hid, decoder
        none = (False,) * len(info.button_names)
        self._reading = PuckReading(
            is_down=none,
            pressed_s=(-math.inf,) * len(none),
            buttons=tuple(info.button_names),
            connection=self._reading.connection + 1,
            opened_s=self._now(),
            is_connected=True,
        )

    def read(self, timeout_s: float) -> PuckReading:
        """Wait at most `timeout_s` for a report, read all that are waiting, and return what is true now.

        One read gives one report; reading one a step would act on what the person wished long ago.

        Raises:
            Exception: of the HID library, when the device is gone.
        """
        assert self._hid is not None  # open
        self._hid.timeout_ms = max(1, round(1000 * timeout_s))
        for _ in range(MAX_DRAINED):
            self._decoder.read()
            if not self._hid.has_reported:
                break
            self._hid.timeout_ms = 0
        return self._reading

    def lost(self) -> PuckReading:
        """Return what is true once the device is gone: nothing is pushed or held."""
        self._reading = PuckReading(connection=self._reading.connection)
        return self._reading

    def close(self) -> None:
        """Let the device go. Safe to call twice."""
        if self._decoder is not None:
            self._decoder.close()
        self._hid = self._decoder = None

    def _take_motion(self, state: Any) -> None:
        deflection = np.array([state.x, state.y, state.z, state.roll, state.pitch, state.yaw])
        deflection = np.clip(deflection, -1.0, 1.0)
        deflection.flags.writeable = False
        self._reading = self._reading._replace(deflection=deflection, moved_s=self._now())

    def _take_buttons(self, _: Any, buttons: list[int]) -> None:
        is_down = tuple(bool(button) for button in buttons)
        before = zip(is_down, self._reading.is_down, self._reading.pressed_s, strict=True)
        pressed_s = tuple(self._now() if is_now and not was else last_s for is_now, was, last_s in before)
        self._reading = self._reading._replace(is_down=is_down, pressed_s=pressed_s)


class _Waiting:
    """A HID device below pyspacemouse that waits for a report, and says whether one came: pyspacemouse does neither."""

    def __init__(self, hid: Hid) -> None:
        self._hid = hid
        self.timeout_ms = 0
        self.has_reported = False

    def read(self, size: int) -> bytearray:
        self.has_reported = False
        report = self._hid.read(size, timeout=self.timeout_ms)
        self.has_reported = bool(report)
        return report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hid, name)
