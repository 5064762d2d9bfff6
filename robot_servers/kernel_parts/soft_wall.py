"""The soft wall: a compliant force on the measured pose, inside each side of the workspace box (SAFETY 1.4.2).

The box bounds what is asked of the arm; the wall answers whatever else carries it towards the edge. Its
default width and stiffness are those of Polymetis.
"""

import math

import numpy as np

from robot_servers.backend import Floats
from robot_servers.limits import SafetyLimits
from robot_servers.rotations import rotated
from serl_core.robots.messages import Vector3, Vector7


class SoftWall:
    """0 N at `soft_wall_m` inside a side, rising by `soft_wall_n_m`, also outside until the arm is latched there.

    A hold takes the force at its pose as zero: the wall then resists a push further out, but does not
    move an arm that was just stopped, recovered or left alone. The next command brings the whole force back.

    Attributes:
        clear_low_m: no force from here
        clear_high_m: to here, on all axes. In a box narrower than two walls there is no such place.
        is_relieved: since the newest hold, no command has begun.
    """

    def __init__(self, limits: SafetyLimits) -> None:
        is_on = limits.soft_wall_m > 0.0 and limits.soft_wall_n_m > 0.0
        width = limits.soft_wall_m if is_on else 0.0
        x, y, z = limits.box_low_m
        self.clear_low_m: Vector3 = (x + width, y + width, z + width)
        x, y, z = limits.box_high_m
        self.clear_high_m: Vector3 = (x - width, y - width, z - width)
        self._stiffness = limits.soft_wall_n_m if is_on else 0.0
        self._reach_m = width + limits.box_exit_m
        self._relief: Vector3 = (0.0, 0.0, 0.0)
        self.is_relieved = False

    def hold_at(self, position_m: Vector3) -> None:
        """Push no arm that is here."""
        self._relief = self._whole_force(position_m)
        self.is_relieved = True

    def restore(self) -> None:
        """Push with the whole force again."""
        self._relief = (0.0, 0.0, 0.0)
        self.is_relieved = False

    def wrench(self, measured: Vector7) -> Floats:
        """Return the push [6] on an arm measured there, in its tool frame."""
        x, y, z, w = measured[3:]
        return np.array((*rotated((-x, -y, -z, w), self.force(measured[:3])), 0.0, 0.0, 0.0))

    def short_m(self, target_m: Vector3, measured_m: Vector3, stiffness_n_m: float) -> float:
        """Return how far an arm is from its target, less what the force explains against a spring that pulls there."""
        short_m = []
        for goal, measured, force in zip(target_m, measured_m, self.force(measured_m), strict=True):
            low, high = sorted((goal, goal + force / stiffness_n_m))
            short_m.append(max(low - measured, measured - high, 0.0))
        return math.hypot(*short_m)

    def force(self, position_m: Vector3) -> Vector3:
        """Return the force [3] in N, base frame, on an arm measured at `position_m`."""
        x, y, z = map(_beyond, self._whole_force(position_m), self._relief)
        return (x, y, z)

    def _whole_force(self, position_m: Vector3) -> Vector3:
        x, y, z = map(self._along, position_m, self.clear_low_m, self.clear_high_m)
        return (x, y, z)

    def _along(self, x: float, low: float, high: float) -> float:
        """Return the force along one axis; two walls that overlap add."""
        depth = min(max(low - x, 0.0), self._reach_m) - min(max(x - high, 0.0), self._reach_m)
        return self._stiffness * depth


def _beyond(force: float, relief: float) -> float:
    """Return what a force has more than the relief of the same direction."""
    if force > 0.0:
        return max(0.0, force - max(0.0, relief))
    return min(0.0, force - min(0.0, relief))
