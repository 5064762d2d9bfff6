"""What the Cartesian controller is told in each tick: the pose to pull to, a wrench on top, and its rest posture.

It keeps the newest of each for ever, so that a push must be ended.
"""

from robot_servers.arm_parts.kinematics_panda import REST_Q
from robot_servers.ros2 import names
from robot_servers.ros2.io import RosIo
from robot_servers.ros2.state import Reading
from robot_servers.rotations import rotated
from serl_core.robots.messages import Vector6, Vector7

REPEAT_S = 0.5  # what rarely changes is published this often: a subscriber may not have been found at first
NO_WRENCH: Vector6 = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Targets:
    """Publishes them."""

    def __init__(self, io: RosIo) -> None:
        """Store."""
        self._io = io
        self._is_pushing = False
        self._repeated_s = 0.0  # on the arm's clock

    def publish(self, reading: Reading, pose: Vector7, wrench: list[float] | None) -> None:
        """Let the arm pull to `pose` (base frame) and push with `wrench` (tool frame [6]); None pushes with none."""
        self._io.publish(names.TARGET_POSE, names.pose_stamped(pose))
        is_due = not 0.0 <= reading.stamp_s - self._repeated_s <= REPEAT_S
        if wrench is not None:
            tool = reading.pose[3:]
            self._push((*rotated(tool, wrench[:3]), *rotated(tool, wrench[3:])))
        elif self._is_pushing or is_due:
            self.end_push()
        if is_due:
            self._repeated_s = reading.stamp_s
            self._io.publish(names.TARGET_JOINT, names.joint_state(reading.joint_names, REST_Q))

    def relax(self) -> None:
        """End a push, if there is one."""
        if self._is_pushing:
            self.end_push()

    def end_push(self) -> None:
        """Push no more; also when the push is one of a server that was killed."""
        self._is_pushing = False
        self._io.publish(names.TARGET_WRENCH, names.wrench_stamped(NO_WRENCH))

    def rest(self, pose: Vector7) -> None:
        """Leave the arm holding at `pose`, pushing nothing: nobody will tell it more."""
        self.relax()
        self._io.publish(names.TARGET_POSE, names.pose_stamped(pose))

    def _push(self, wrench: Vector6) -> None:
        self._is_pushing = True
        self._io.publish(names.TARGET_WRENCH, names.wrench_stamped(wrench))
