"""What a real arm's driver has read, as the message that clients get."""

from collections.abc import Iterable
from typing import Protocol

from robot_servers.backend import Measured, jacobian_rows
from serl_core.robots.messages import Mode, RobotState, Vector7


class Reading(Protocol):
    """One reading; all of it is of the same moment."""

    @property
    def stamp_s(self) -> float:
        """The clock that the driver's `now_s` tells."""

    @property
    def measured(self) -> Measured:
        """What the kernel judges by."""

    @property
    def pose(self) -> Vector7:
        """The tool's, base frame."""

    @property
    def wrench(self) -> Iterable[float]:
        """What the world exerts on the robot, base frame, at the tool [6]."""


def message(reading: Reading, *, gripper: float, reference: Vector7, fault: str | None) -> RobotState:
    """Return the message of a reading, twist = jacobian @ dq; the kernel's part is filled in above."""
    _, _, q, dq, jacobian = reading.measured
    return RobotState(
        stamp_s=reading.stamp_s,
        tcp_pose=reading.pose,
        tcp_twist=tuple((jacobian @ dq).tolist()),
        tcp_wrench=tuple(map(float, reading.wrench)),
        q=tuple(q.tolist()),
        dq=tuple(dq.tolist()),
        jacobian=jacobian_rows(jacobian),
        gripper=gripper,
        mode=Mode.HOLD,
        reference_pose=reference,
        fault=fault,
    )
