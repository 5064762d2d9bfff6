"""One joint reset: the goal that moves the joints to the rest posture, and how it stands."""

import logging
from enum import Enum
from typing import Any

from robot_servers.arm_parts.joint_move import JointMove
from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.backend import Floats
from robot_servers.ros2 import names
from robot_servers.ros2.io import Goal, RosIo
from robot_servers.ros2.state import Reading

logger = logging.getLogger(__name__)

SLOWEST_RAD_S = 0.05  # of a point-to-point motion


class JointResetBy(Enum):
    """What moves the joints in a joint reset."""

    TRAJECTORY = "trajectory"  # ros2_control's joint_trajectory_controller, along a path of ours
    PTP_MOTION = "ptp_motion"  # the arm's own point-to-point motion, by franka_ros2's action server

    @property
    def controllers(self) -> list[str]:
        """Those that must run for it."""
        return [names.TRAJECTORY_CONTROLLER] if self is JointResetBy.TRAJECTORY else []


class JointReset:
    """From where the arm is to the rest posture, where it stays until the reset is ended.

    Attributes:
        must_end: nobody wants it any more; from any thread.
        has_failed: its action was refused, or ended without having arrived.
    """

    def __init__(self, reading: Reading, speed_m_s: float) -> None:
        """Store; the tool stays below `speed_m_s`."""
        self.must_end = False
        self.has_failed = False
        self._reading = reading
        self._move = JointMove(reading.measured.q.tolist(), REST_Q, speed_m_s)
        self._goal: Goal | None = None

    def send(self, io: RosIo, by: JointResetBy) -> None:
        """Begin.

        Raises:
            RobotError: the action's messages are another version's.
        """
        if by is JointResetBy.TRAJECTORY:
            fields = names.trajectory(self._reading.joint_names, self._move)
            self._goal = io.send_goal(names.FOLLOW_TRAJECTORY, fields, self._end)
        else:
            # As fast as the trajectory on average, so that the tool stays below its limit too.
            speed_rad_s = max(SLOWEST_RAD_S, self.error_rad(self._reading.measured.q) / self._move.duration_s)
            self._goal = io.send_goal(names.PTP_MOTION, names.ptp_motion(REST_Q, speed_rad_s), self._end)

    def error_rad(self, q: Floats) -> float:
        """Return the largest distance of a joint from the rest posture."""
        return self._move.error_rad(q)

    def cancel(self) -> None:
        """End it where the arm is; returns at once."""
        self.must_end = True
        if self._goal is not None:
            self._goal.cancel()

    def _end(self, result: Any | None) -> None:
        if result is None and not self.must_end:
            logger.error("the joint reset's action failed or was refused")
            self.has_failed = True
