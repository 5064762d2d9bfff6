"""One SpaceMouse that moves one arm: what the person wants of the tool and the gripper, and whether to believe it."""

import logging
import math
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from actors.teleop.puck import MAX_AGE_S, SpaceMouseConfig, beyond_dead_zone, tool_twist
from actors.teleop.puck_buttons import NewPress, check_buttons, find_buttons, is_down
from actors.teleop.puck_reading import PuckReading
from serl_core.clock import Clock
from serl_core.robots.messages import RobotState

logger = logging.getLogger(__name__)

CLOSED, OPEN = -1.0, 1.0
OPEN_FROM = 0.9  # of the whole opening; below, the gripper may hold something, and letting it go must be asked for
HOLD_S = 0.55  # the person keeps control for 0.5 s after the last push (actors.intervention), and the gripper too

State = Callable[[], RobotState]
"""Returns the arm's last state."""


class Puck(Protocol):
    """`actors.teleop.puck_thread.PuckThread`."""

    def open(self) -> None:
        """Start reading the device."""

    def read(self) -> PuckReading:
        """Return what it said last, without blocking."""

    def close(self) -> None:
        """Stop reading."""


class ArmCommand(NamedTuple):
    """What the person wants of one arm."""

    twist: Float[np.ndarray, "6"]
    gripper: float
    is_engaged: bool
    hands_back: bool
    is_lost: bool = False


class ArmPuck:
    """One device that moves one arm.

    A device that was just plugged in counts only once its puck was seen at rest: one that lies on its side, or was
    unplugged while pushed, moves nothing. One that goes silent or away while it is pushed is lost until then.

    Args:
        state: of the arm that it moves.
        has_gripper: whether a button moves one.
        is_demonstrating: engaged all the time: there is no policy to hand back to.
    """

    def __init__(
        self,
        puck: Puck,
        config: SpaceMouseConfig,
        state: State,
        *,
        has_gripper: bool,
        is_demonstrating: bool = False,
        now: Clock = time.monotonic,
    ) -> None:
        self._puck = puck
        self._config = config
        self._state = state
        self._has_gripper = has_gripper
        self._is_demonstrating = is_demonstrating
        self._now = now
        self._connection = 0  # the one whose puck was seen at rest
        self._was_pushed = self._is_lost = False
        self._silent_s = -math.inf  # when the puck was pushed last that was silent then: warned of once
        self._gripper_press, self._hand_back_press = NewPress(), NewPress()
        self._gripper: float | None = None  # what the person wants of it; None while the policy has it
        self._engaged_s = -math.inf

    def open(self) -> None:
        """Start reading the device.

        Raises:
            ConfigError: it is missing, may not be opened, or lacks a button.
        """
        self._puck.open()
        buttons = self._puck.read().buttons
        check_buttons(buttons, self._config.hand_back_buttons)
        if self._has_gripper:
            check_buttons(buttons, self._config.gripper_buttons)
            if not find_buttons(buttons, self._config.gripper_buttons):
                logger.warning("SpaceMouse: it has no button for the gripper, which a person cannot move then")

    def read(self) -> ArmCommand:
        """Return the newest command, without blocking."""
        reading, now_s, state = self._puck.read(), self._now(), self._state()
        is_pushed = self._is_pushed(reading, now_s)
        has_pressed = self._has_gripper and self._gripper_press.take(reading, self._config.gripper_buttons, now_s)
        back = self._config.hand_back_buttons
        hands_back = self._hand_back_press.take(reading, back, now_s) or is_down(reading, back)
        twist = np.zeros(6)
        if is_pushed:
            twist = tool_twist(reading.deflection, np.array(state.tcp_pose[3:]), self._config)
        is_engaged = self._is_demonstrating or is_pushed or has_pressed
        if now_s - self._engaged_s > HOLD_S or (hands_back and not is_engaged):
            self._engaged_s, self._gripper = -math.inf, None
        if is_engaged:
            self._engaged_s = now_s
        gripper = self._gripper or (OPEN if state.gripper >= OPEN_FROM else CLOSED)
        if has_pressed:
            gripper = -gripper
        if self._engaged_s > -math.inf:
            self._gripper = gripper
        return ArmCommand(twist, gripper, is_engaged and not self._is_lost, hands_back, self._is_lost)

    def age_s(self) -> float | None:
        """Return the time since the device last spoke, None before it has. For any thread, without blocking."""
        reading = self._puck.read()
        spoke_s = max(reading.moved_s, *reading.pressed_s, -math.inf)
        return None if spoke_s == -math.inf else self._now() - spoke_s

    def close(self) -> None:
        """Stop reading."""
        self._puck.close()

    def _is_pushed(self, reading: PuckReading, now_s: float) -> bool:
        """Return whether the person pushes the puck now, as far as the device can be believed."""
        is_deflected = bool(beyond_dead_zone(reading.deflection, self._config.dead_zone).any())
        is_fresh = now_s - reading.moved_s <= MAX_AGE_S
        if is_deflected and not is_fresh and reading.moved_s != self._silent_s:
            self._silent_s = reading.moved_s
            logger.warning("SpaceMouse: pushed, then silent for %.1f s: nobody intervenes", now_s - reading.moved_s)
        # A puck at rest is silent: one that has said nothing for a while since it was plugged in is at rest.
        is_known = reading.moved_s > -math.inf or now_s - reading.opened_s > MAX_AGE_S
        is_at_rest = is_known and not is_deflected
        if is_at_rest:
            self._connection = reading.connection
        is_pushed = is_deflected and is_fresh and reading.connection == self._connection
        if is_pushed or (is_at_rest and reading.is_connected):
            self._was_pushed, self._is_lost = is_pushed, False
        elif self._was_pushed:
            self._was_pushed, self._is_lost = False, True
            logger.error("SpaceMouse: lost while it was pushed; the arm holds until it is back and let go once")
        return is_pushed
