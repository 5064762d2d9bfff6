"""The first-order filter that the set-point passes before the impedance law: one dynamics for every arm."""

import math

from robot_servers.backend import Reference
from robot_servers.rotations import slerp
from serl_core.robots.messages import Vector7


class TargetFilter:
    """Follows references with a time constant; slerp for rotation.

    Attributes:
        pose: the filtered reference, x y z qx qy qz qw.
    """

    def __init__(self, time_constant_s: float) -> None:
        """Store the time constant; 0 follows at once. `restart` comes first."""
        self.pose: Vector7 = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        self._time_constant_s = time_constant_s

    def restart(self, pose: Vector7) -> None:
        """Be at `pose`."""
        self.pose = pose

    def follow(self, reference: Reference, dt_s: float) -> bool:
        """Move on by `dt_s`; False, and nothing moves, if `reference` is not finite."""
        x, y, z = reference.position_m.tolist()
        qx, qy, qz, qw = reference.quaternion.tolist()
        if not math.isfinite(x + y + z + qx + qy + qz + qw):
            return False
        share = 1.0 if self._time_constant_s <= 0.0 else -math.expm1(-dt_s / self._time_constant_s)
        px, py, pz, ax, ay, az, aw = self.pose
        turn = slerp((ax, ay, az, aw), (qx, qy, qz, qw), share)
        self.pose = (px + share * (x - px), py + share * (y - py), pz + share * (z - pz), *turn)
        return True
