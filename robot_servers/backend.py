"""What a robot driver must offer to the server. The safety kernel sits above it, in every control tick.

A backend owns the control loop and its clock. In each tick it asks the servo (the safety kernel)
for the reference pose that the impedance law may track, so no command can reach the arm past it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from serl_core.robots.interface import CameraImage
from serl_core.robots.messages import ImpedanceParams, RobotState, Vector3, Vector7

REFLEX = "reflex"  # a driver's fault: the arm stopped itself at a touch; the one that may be recovered from unasked

Floats = NDArray[np.float64]
JacobianRows = tuple[Vector7, Vector7, Vector7, Vector7, Vector7, Vector7]


class JointLimits(NamedTuple):
    """What the joints of one arm's model can do. The kernel stays inside: the arm itself stops at them."""

    low_rad: Vector7
    high_rad: Vector7
    speed_rad_s: Vector7  # a joint measured faster is stopped; below the speed at which the arm stops itself


class Measured(NamedTuple):
    """The reading that a control tick begins with. The servo copies what it keeps: the arrays may be views."""

    position_m: Floats  # [3] of the tool centre point, base frame
    quaternion: Floats  # [4] xyzw
    q: Floats  # [7] rad
    dq: Floats  # [7] rad/s
    jacobian: Floats  # [6, 7] of the tool centre point, base frame


def measured_in(state: RobotState) -> Measured:
    """Return the reading that `state` holds."""
    pose = state.tcp_pose
    return Measured(
        np.array(pose[:3]), np.array(pose[3:]), np.array(state.q), np.array(state.dq), np.array(state.jacobian)
    )


def jacobian_rows(jacobian: Floats) -> JacobianRows:
    """Return a Jacobian [6, 7] as the state's message has it."""
    rows: Any = tuple(map(tuple, jacobian.tolist()))
    return rows


class Reference(NamedTuple):
    """The set-point of one control tick, base frame, and the wrench to push with on top."""

    position_m: Floats  # [3]
    quaternion: Floats  # [4] xyzw, unit
    wrench: Floats | None = None  # [6] in N and Nm on the tool, in the measured tool frame; None pushes with none


Servo = Callable[[float, Measured], Reference]
"""(robot's clock in s, what was measured) -> reference.

Called once per control tick from the control loop; must not block or raise.
"""


class RobotBackend(Protocol):
    """One arm and its gripper. Calls come from the service, one at a time.

    Except `fault`, `joint_reset_error_rad` and `cancel_joint_reset`: the servo calls these in the control
    tick, so they must be quick.
    """

    name: str
    is_simulated: bool
    is_lockstep: bool  # time moves only by `advance`
    scene: str | None

    def start(self, servo: Servo) -> None:
        """Connect and start the control loop, holding the present pose. In lockstep: no thread."""

    def stop(self) -> None:
        """End the loop and disconnect. Safe to call twice."""

    def joint_limits(self) -> JointLimits:
        """Return the limits of this arm's model; asked once, before `start`."""

    def now_s(self) -> float:
        """Return the robot's clock (simulated time in simulation)."""

    def state(self) -> RobotState:
        """Return the newest reading. `mode`, `lease_epoch` and `is_stale` are filled in above."""

    def set_impedance(self, params: ImpedanceParams) -> None:
        """Adopt checked gains; ramps with a time constant of at least 0.1 s."""

    def set_gripper(self, position: float, speed_m_s: float, force_n: float) -> None:
        """Start a gripper motion; returns at once."""

    def set_load(self, mass_kg: float, center_m: Vector3, inertia_kg_m2: tuple[float, ...]) -> None:
        """Tell the arm its payload."""

    def start_joint_reset(self) -> None:
        """Begin the slow joint-space move to the rest posture, and stay there until it is cancelled.

        The servo is still called, unheeded.
        """

    def joint_reset_error_rad(self) -> float | None:
        """Return the largest joint error of a joint reset, or None when none runs; 0.01 rad is there."""

    def cancel_joint_reset(self) -> None:
        """Hold where the arm is."""

    def recover(self) -> None:
        """Clear a reflex in the driver. Called only on a client's explicit request."""

    def fault(self) -> str | None:
        """Return the driver's latched fault, such as ``reflex``, or None."""


class SimBackend(RobotBackend, Protocol):
    """What only a simulator can do."""

    def advance(self, duration_s: float) -> None:
        """Run the control loop for `duration_s` (rounded to ticks) of simulated time. Lockstep only."""

    def reset(self, seed: int | None, pose: Vector7 | None) -> None:
        """Put the arm at rest at `pose` (the scene's start pose if None), by inverse kinematics.

        `state().truth` tells how the task stands.
        """


@runtime_checkable  # a backend may have it or not
class GripperBackend(Protocol):
    """What a backend offers besides whose gripper may fail while the arm goes on. Called from any thread."""

    def gripper_fault(self) -> str | None:
        """Return why the gripper no longer obeys, such as ``gripper_lost``, or None."""

    def recover_gripper(self) -> None:
        """Clear that and connect again, on a client's explicit request only; the fingers may move.

        Returns at once: the fault is there until the gripper obeys again.
        """


@runtime_checkable  # a backend may have it or not
class CameraBackend(Protocol):
    """What a backend with cameras offers besides. Called from any thread, beside all other calls."""

    cameras: tuple[str, ...]  # their names

    def camera(self, name: str, height: int, width: int) -> CameraImage:
        """Return the newest picture of one of `cameras`; in lockstep, that of the present state.

        It waits for the picture and never for motion, and holds up neither control ticks nor other calls.

        Raises:
            RobotError: no picture can be made (status 503).
        """
