"""Moves an arm by small steps that a person asks for with the keyboard, each within the server's speed limits."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from serl_core.cli.robot_pose import Frame, stepped, where
from serl_core.errors import ConfigError, RobotError, RobotFault
from serl_core.geometry import distance
from serl_core.robots.interface import Robot
from serl_core.robots.messages import Mode, RobotState, Vector6, Vector7

SPEED_M_S = 0.05
SPEED_RAD_S = 0.3
LARGEST_STEP_M = 0.1  # what the server takes as one target of a policy; a longer way is no small step
LARGEST_STEP_RAD = 0.5
SMALLEST_STEP_M, SMALLEST_STEP_RAD = 1e-4, 1e-3
DRIFT_M, DRIFT_RAD = 0.005, 0.05  # from where a step was to end: then the next one begins at the measured pose

AXES: dict[str, tuple[int, float]] = {
    "w": (0, 1.0), "s": (0, -1.0), "a": (1, 1.0), "d": (1, -1.0), "r": (2, 1.0), "f": (2, -1.0),
    "l": (3, 1.0), "j": (3, -1.0), "i": (4, 1.0), "k": (4, -1.0), "u": (5, 1.0), "o": (5, -1.0),
}  # fmt: skip
KEYS = """\
  w s  x + -      a d  y + -      r f  z + -        one step, in the axes of {frame}
  l j  roll + -   i k  pitch + -  u o  yaw + -      one turn
  + -  larger and smaller steps   g  open or close the gripper
  p    print the pose for a config
  space  stop the arm, latched    q  end; the arm holds where it is"""


class StepSize(NamedTuple):
    """How far a key moves and turns the tool."""

    translation_m: float
    rotation_rad: float

    def check(self) -> None:
        """Refuse a size of 0 or less, or no small one.

        Raises:
            ConfigError: it names the option.
        """
        for name, value, low, high in (
            ("--step-m", self.translation_m, SMALLEST_STEP_M, LARGEST_STEP_M),
            ("--step-rad", self.rotation_rad, SMALLEST_STEP_RAD, LARGEST_STEP_RAD),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name}: must be {low:g} to {high:g}, got {value:g}")

    def scaled(self, factor: float) -> "StepSize":
        """Return larger or smaller steps, each within what a step may be."""
        return StepSize(
            min(max(factor * self.translation_m, SMALLEST_STEP_M), LARGEST_STEP_M),
            min(max(factor * self.rotation_rad, SMALLEST_STEP_RAD), LARGEST_STEP_RAD),
        )


def require_free(state: RobotState) -> None:
    """Refuse an arm that takes no commands.

    Raises:
        RobotFault: a stop or a fault is latched; the message says how to end it.
    """
    if state.mode is Mode.FAULT:
        raise RobotFault(
            f"the arm is latched by the fault {state.fault!r}; look at the arm and free it, then run "
            "`serl robot recover`"
        )
    if state.mode is Mode.STOPPED:
        raise RobotFault(
            f"the arm is stopped ({state.fault!r}); look whether it may move again, then run `serl robot resume`"
        )


def check_step(step: Vector6) -> None:
    """Refuse a step that is not finite, or no small one.

    Raises:
        ConfigError: it is too long, or turns too far.
    """
    length, angle = math.hypot(*step[:3]), math.hypot(*step[3:])
    if not length <= LARGEST_STEP_M:
        raise ConfigError(f"--by: a step may be {LARGEST_STEP_M:g} m long, got {length:g} m; go in several steps")
    if not angle <= LARGEST_STEP_RAD:
        raise ConfigError(f"--by: a step may turn by {LARGEST_STEP_RAD:g} rad, got {angle:g} rad; go in several steps")


class Jog:
    """Steps of a connected arm. Each begins where the last one was to end, so that small errors do not add up.

    Args:
        say: takes the lines for the person.
    """

    def __init__(self, robot: Robot, frame: Frame, say: Callable[[str], None]) -> None:
        self._robot = robot
        self._frame = frame
        self._say = say
        self._goal: Vector7 | None = None

    def step(self, step: Vector6) -> RobotState:
        """Move by `step` (m and rad) and return the state there.

        Raises:
            RobotError: refused, or not arrived: something is in the way.
            RobotFault: the arm is stopped or in a fault.
        """
        start = self._start()
        self._goal = None
        goal = stepped(start, step, self._frame)
        state = self._robot.move(goal, speed_m_s=SPEED_M_S, speed_rad_s=SPEED_RAD_S)
        self._goal = goal
        return state

    def run(self, keys: Iterable[str], size: StepSize) -> None:
        """Obey keys until q, the space bar or their end.

        Raises:
            RobotFault: the arm is stopped or in a fault.
        """
        for key in keys:
            if key == "q":
                return
            if key == " ":
                self._robot.stop()
                self._say("stopped; `serl robot resume` ends that")
                return
            size = self._obey(key, size)

    def _obey(self, key: str, size: StepSize) -> StepSize:
        if key in ("+", "-"):
            size = size.scaled(2.0 if key == "+" else 0.5)
            self._say(f"steps of {1e3 * size.translation_m:.3g} mm and {math.degrees(size.rotation_rad):.2g} degrees")
        elif key == "p":
            self._say(where(self._robot.state()))
        elif key == "g":
            self._robot.set_gripper(0.0 if self._robot.state().gripper > 0.5 else 1.0)
        elif key in AXES:
            axis, sign = AXES[key]
            length = sign * (size.translation_m if axis < 3 else size.rotation_rad)
            x, y, z, roll, pitch, yaw = (length if i == axis else 0.0 for i in range(6))
            try:
                self._say(short(self.step((x, y, z, roll, pitch, yaw))))
            except RobotFault:
                raise
            except RobotError as error:
                self._say(f"not there: {error}")
        return size

    def _start(self) -> Vector7:
        measured = self._robot.state().tcp_pose
        if self._goal is None:
            return measured
        apart_m, apart_rad = distance(np.array(self._goal), np.array(measured))
        return measured if apart_m > DRIFT_M or apart_rad > DRIFT_RAD else self._goal


def short(state: RobotState) -> str:
    """Return where the tool is and what it feels, in a line."""
    x, y, z = state.tcp_pose[:3]
    return f"x {x:.4f}  y {y:.4f}  z {z:.4f} m   force {math.hypot(*state.tcp_wrench[:3]):.1f} N"
