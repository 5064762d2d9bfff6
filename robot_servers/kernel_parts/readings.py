"""The arm's newest sound reading: one with a number that is not finite is dropped, and counted."""

import math

from robot_servers.backend import Measured
from robot_servers.kernel_parts.joint_guard import JointGuard
from serl_core.robots.messages import Vector7

MAX_NOT_FINITE = 3  # in a row; so many and the arm's state is not known any more


class Readings:
    """What was measured last.

    Attributes:
        pose: of the tool; None before the first sound reading.
        dropped: how many were not finite, since the start.
    """

    def __init__(self, joints: JointGuard) -> None:
        """Store what is told of the joints of each sound reading."""
        self.pose: Vector7 | None = None
        self.dropped = 0
        self._joints = joints
        self._dropped_in_a_row = 0

    @property
    def are_lost(self) -> bool:
        """Too many in a row were dropped."""
        return self._dropped_in_a_row >= MAX_NOT_FINITE

    def take(self, measured: Measured) -> bool:
        """Take note of a reading; False, and nothing but the count changes, if it is not finite."""
        position, quaternion, q, dq, jacobian = measured
        px, py, pz = position.tolist()
        qx, qy, qz, qw = quaternion.tolist()
        is_finite = -math.inf < px + py + pz + qx + qy + qz + qw < math.inf
        if not is_finite or not self._joints.measure(q.tolist(), dq.tolist(), jacobian):
            self.dropped += 1
            self._dropped_in_a_row += 1
            return False
        self._dropped_in_a_row = 0
        self.pose = (px, py, pz, qx, qy, qz, qw)
        return True

    def forgive(self) -> None:
        """Begin to count those in a row anew."""
        self._dropped_in_a_row = 0
