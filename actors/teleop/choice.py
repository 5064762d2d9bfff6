"""Who corrects the policy, or demonstrates: the scripted human of a simulation, a person, or nobody."""

from enum import Enum

import numpy as np

from actors.teleop.interface import TeleopCommand
from serl_core.errors import ConfigError
from serl_core.robots.messages import Health
from serl_core.types import ActionSpec


class TeleopKind(Enum):
    """Who is at the device."""

    AUTO = "auto"  # the scripted human for a simulated robot; a real one must be told
    SCRIPTED = "scripted"  # the task's expert, for a simulated robot
    SPACEMOUSE = "spacemouse"
    BROWSER = "browser"  # the page of `serl console` alone; beside any other it may take over too
    NONE = "none"  # the policy acts alone


class NoTeleop:
    """A device that nobody uses."""

    def __init__(self, spec: ActionSpec) -> None:
        self._command = TeleopCommand(np.zeros(spec.size, np.float32), is_engaged=False, hands_back=True)

    def open(self) -> None:
        """There is no device to open."""

    def read(self) -> TeleopCommand:
        """Return that nobody wants anything."""
        return self._command

    def close(self) -> None:
        """There is no device to close."""


def check_scripted(kind: TeleopKind, robot: Health, *, is_mock: bool) -> None:
    """Refuse the scripted human on a real robot.

    Args:
        is_mock: no arm is behind the robot's server, although it is not our simulator.

    Raises:
        ConfigError: the robot is real; asked for the scripted human or not, it says what to ask for.
    """
    if robot.is_simulated or is_mock:
        return
    if kind is TeleopKind.AUTO:
        raise ConfigError(
            f"--teleop: the robot {robot.backend!r} is real, so say who is at the device: give --teleop spacemouse "
            "or browser, or --teleop none to let the policy act alone"
        )
    raise ConfigError(
        f"--teleop scripted: the scripted human sees nobody in its way and is for simulated robots, and the robot "
        f"{robot.backend!r} is real; give --teleop spacemouse, browser or none"
    )


def check_person(robot: Health, kind: TeleopKind = TeleopKind.SPACEMOUSE) -> None:
    """Refuse a person at a robot whose time runs as fast as it can.

    Raises:
        ConfigError: the robot is simulated in lockstep.
    """
    if robot.clock == "lockstep":
        raise ConfigError(
            f"--teleop {kind.value}: the robot {robot.backend!r} runs in lockstep, faster than a person; start it with "
            "`serl robot-server --clock real_time`"
        )
