"""A person labels frames with a SpaceMouse's button: held down while the task is done."""

import math
import time
from collections.abc import Callable

from actors.teleop.puck_buttons import NewPress, check_buttons, find_buttons, is_down
from actors.teleop.puck_reading import PuckReading
from serl_core.clock import Clock
from serl_core.errors import ConfigError
from serl_core.robots.messages import RobotState

UNSURE_S = 0.5  # after the button was let go: a person is late, and the task may have been undone before


class ButtonLabel:
    """Success while a button is held; nothing just after, and nothing while the device is unplugged.

    Args:
        read: returns what the device said last, without blocking.
        buttons: their names; any of them says so.
    """

    def __init__(self, read: Callable[[], PuckReading], buttons: tuple[str, ...], now: Clock = time.monotonic) -> None:
        self._read = read
        self._buttons = buttons
        self._now = now
        self._press = NewPress()
        self._held_s = -math.inf
        self._is_of_before = False  # held since before the episode: not meant for it

    def begin_episode(self) -> None:
        """Forget what was pressed before, as during the reset."""
        reading = self._read()
        self._press.take(reading, self._buttons, self._now())
        self._is_of_before = is_down(reading, self._buttons)
        self._held_s = -math.inf

    def __call__(self, state: RobotState) -> bool | None:
        """Return the label of this step: success, no success, or None where it is not known."""
        reading, now_s = self._read(), self._now()
        is_held, is_new = is_down(reading, self._buttons), self._press.take(reading, self._buttons, now_s)
        self._is_of_before = self._is_of_before and is_held and not is_new
        if is_held or is_new:
            self._held_s = now_s
            # None too for a press that was over before this step.
            return True if is_held and not self._is_of_before else None
        is_known = reading.is_connected and now_s - self._held_s >= UNSURE_S
        return False if is_known else None


def check_label_buttons(reading: PuckReading, buttons: tuple[str, ...]) -> None:
    """Refuse buttons that the device does not have.

    Raises:
        ConfigError: one is missing, or the device has none at all.
    """
    check_buttons(reading.buttons, buttons)
    if not find_buttons(reading.buttons, buttons):
        raise ConfigError("--label button: this SpaceMouse has no buttons; use --label key")
