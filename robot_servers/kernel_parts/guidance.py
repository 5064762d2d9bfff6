"""Moves the set-point of an arm: towards a target no faster than the arm itself may be, and to rest in a hold."""

from robot_servers.backend import Reference
from robot_servers.kernel_parts.joint_guard import JointGuard
from robot_servers.kernel_parts.settling import Settling
from robot_servers.kernel_parts.slew import SetPoint
from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.kernel_parts.speed_governor import SpeedGovernor
from robot_servers.limits import SafetyLimits
from serl_core.robots.messages import Vector7


class Guidance:
    """The set-point, with what bounds its lead over the arm, and what ends a swing.

    Args:
        limits: of the kernel.
        joints: know the velocity of the tool.
        wall: told where a hold begins.
    """

    def __init__(self, limits: SafetyLimits, joints: JointGuard, wall: SoftWall) -> None:
        self._joints = joints
        self._wall = wall
        self._set_point = SetPoint(limits)
        self._governor = SpeedGovernor(limits)
        self._settling = Settling()

    @property
    def pose(self) -> Vector7:
        """The set-point."""
        return self._set_point.pose

    @property
    def reference(self) -> Reference:
        """The set-point, for the law."""
        return self._set_point.reference

    @property
    def is_at_rest(self) -> bool:
        """The set-point has arrived, and stands."""
        return self._set_point.is_at_rest

    @property
    def is_settling(self) -> bool:
        """The arm may still swing after a hold in motion."""
        return self._settling.is_on

    def place(self, measured: Vector7) -> None:
        """Be where the arm is, as in a joint reset."""
        self._set_point.place(measured)

    def freeze(self, measured: Vector7) -> None:
        """Stay where the arm is now, whatever it does: a stop, or a fault."""
        self._settling.end()
        self._stay(measured)

    def settle(self, measured: Vector7, now_s: float) -> None:
        """Stay where the arm is now, and take the motion out of it."""
        self._settling.begin(self._joints.velocity(), now_s)
        self._stay(measured)

    def braked(self, measured: Vector7, now_s: float) -> Reference:
        """Return what the law is told while a hold takes the motion out of the arm."""
        velocity_m_s = self._joints.velocity()
        if self._settling.comes_back(measured[:3], self._set_point.pose[:3], velocity_m_s, now_s):
            self._stay(measured)
        return self._settling.braked(self._set_point.reference, velocity_m_s)

    def advance(self, target: Vector7, measured: Vector7, dt_s: float) -> None:
        """Move towards a target, and draw back where the arm becomes too fast behind the set-point."""
        set_point = self._set_point
        set_point.advance(target, dt_s)
        ahead_m = set_point.pose[:3]
        bounded_m = self._governor.bounded(ahead_m, measured[:3], self._joints.velocity(), dt_s)
        if bounded_m is not ahead_m:
            set_point.draw_back(bounded_m)

    def _stay(self, measured: Vector7) -> None:
        """Put the set-point at a measured pose, which no wall pushes the arm away from."""
        self._set_point.place(measured)
        self._wall.hold_at(measured[:3])
