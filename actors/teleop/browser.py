"""A person at the console's page as one more input device, alone or beside another one."""

import math
from collections.abc import Callable

import numpy as np

from actors.operator_desk import OperatorDesk
from actors.teleop.arm_puck import CLOSED, HOLD_S, OPEN, OPEN_FROM
from actors.teleop.interface import Reporting, Teleop, TeleopCommand
from serl_core.errors import ConfigError
from serl_core.robots.messages import RobotState
from serl_core.types import ActionSpec

TWIST, GRIPPER = "twist", "gripper"
SIZES = {TWIST: 6, GRIPPER: 1}

State = Callable[[], RobotState]
"""Returns the arm's last state."""


class BrowserTeleop:
    """Whoever steers by the operator link, as `OperatorDesk.steer` gives it.

    Args:
        spec: of one arm.
        state: of that arm.
        is_demonstrating: engaged all the time: there is no policy to hand back to.

    Raises:
        ConfigError: the action has a block that the page cannot give.
    """

    def __init__(self, spec: ActionSpec, desk: OperatorDesk, state: State, *, is_demonstrating: bool = False) -> None:
        misfit = misfit_of(spec)
        if misfit is not None:
            raise ConfigError(f"--teleop browser: {misfit}; choose another --teleop")
        self._spec = spec
        self._desk = desk
        self._state = state
        self._is_demonstrating = is_demonstrating
        self._gripper: float | None = None  # what the person wants of it; None while nobody wants anything
        self._engaged_s = math.inf  # on the arm's clock; in the future: not in this episode

    def open(self) -> None:
        """Take commands from now on."""
        self._desk.can_steer = True

    def read(self) -> TeleopCommand:
        """Return the newest command, without blocking."""
        wish, state = self._desk.steer(), self._state()
        is_engaged = self._is_demonstrating or (wish is not None and wish.is_engaged)
        hands_back = wish is not None and wish.hands_back
        if is_engaged:
            self._engaged_s = state.stamp_s
        elif hands_back or not 0.0 <= state.stamp_s - self._engaged_s <= HOLD_S:
            self._engaged_s, self._gripper = math.inf, None
        if is_engaged and wish is not None and wish.gripper is not None:
            self._gripper = wish.gripper
        twist = np.array(wish.twist) if wish is not None and wish.is_engaged else np.zeros(6)
        gripper = self._gripper if self._gripper is not None else OPEN if state.gripper >= OPEN_FROM else CLOSED
        parts = {block.name: twist if block.name == TWIST else np.array([gripper]) for block in self._spec.blocks}
        return TeleopCommand(self._spec.join(parts).astype(np.float32), is_engaged=is_engaged, hands_back=hands_back)

    def age_s(self) -> float | None:
        """See `Reporting`."""
        return self._desk.command_age_s()

    def close(self) -> None:
        """Take no more commands."""
        self._desk.can_steer = False


class CombinedTeleop:
    """A browser beside another device: the browser's command wins while it is engaged, and until its hold is over.

    Args:
        state: whose clock the hold is measured on.
    """

    def __init__(self, browser: BrowserTeleop, device: Teleop, state: State) -> None:
        self._browser = browser
        self._device = device
        self._state = state
        self._engaged_s = math.inf  # of the browser; in the future: not in this episode

    def open(self) -> None:
        """Start reading both."""
        self._device.open()
        self._browser.open()

    def read(self) -> TeleopCommand:
        """Return the newest command, without blocking."""
        command, beside = self._browser.read(), self._device.read()
        now_s = self._state().stamp_s
        if command.is_engaged:
            self._engaged_s = now_s
            return command
        if beside.is_engaged or command.hands_back:
            self._engaged_s = math.inf
        is_holding = 0.0 <= now_s - self._engaged_s <= HOLD_S
        return command if is_holding or (command.hands_back and not beside.is_engaged) else beside

    def age_s(self) -> float | None:
        """See `Reporting`. Of whichever was heard last."""
        devices = [device for device in (self._browser, self._device) if isinstance(device, Reporting)]
        return min((age_s for device in devices if (age_s := device.age_s()) is not None), default=None)

    def close(self) -> None:
        """Stop reading both."""
        try:
            self._browser.close()
        finally:
            self._device.close()


def misfit_of(spec: ActionSpec) -> str | None:
    """Return why a page cannot give every block of the action; None if it can."""
    if all(SIZES.get(block.name) == block.size for block in spec.blocks):
        return None
    names = ", ".join(f"{block.name!r} of {block.size}" for block in spec.blocks)
    return f"the page moves one arm by a {TWIST!r} of 6 and a {GRIPPER!r} of 1, and the action has the blocks {names}"
