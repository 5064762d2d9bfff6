"""The workspace box against the measured pose: how far outside is too far (SAFETY 1.4.2)."""

from robot_servers.kernel_parts.soft_wall import SoftWall
from robot_servers.limits import SafetyLimits
from serl_core.robots.messages import Vector7

FURTHER_OUT_M = 0.005  # after a recovery out there: latch again only there


class BoxWatch:
    """Outside by `box_exit_m` is too far, and after a recovery out there a little further than it was then.

    Attributes:
        is_clear: the newest pose is so far inside that no wall pushes.
    """

    def __init__(self, limits: SafetyLimits, wall: SoftWall) -> None:
        """Store."""
        self.is_clear = True
        self._clear = (wall.clear_low_m, wall.clear_high_m)
        self._low = tuple(low - limits.box_exit_m for low in limits.box_low_m)
        self._high = tuple(high + limits.box_exit_m for high in limits.box_high_m)
        self._further_m = 0.0  # beyond these, after a recovery out there

    def is_too_far(self, pose: Vector7) -> bool:
        """Take note of a measured pose. This runs in every control tick, mostly well inside."""
        px, py, pz = pose[:3]
        (lx, ly, lz), (hx, hy, hz) = self._clear
        self.is_clear = lx <= px <= hx and ly <= py <= hy and lz <= pz <= hz
        if self.is_clear:
            self._further_m = 0.0
            return False
        beyond_m = self._beyond_m(pose)
        if beyond_m <= 0.0:
            self._further_m = 0.0
            return False
        return beyond_m > self._further_m

    def recover(self, pose: Vector7) -> None:
        """Let the arm come back from `pose`, and go hardly further out."""
        self._further_m = max(0.0, self._beyond_m(pose)) + FURTHER_OUT_M

    def _beyond_m(self, pose: Vector7) -> float:
        """Return how far a pose is beyond where the arm is latched; negative inside."""
        sides = zip(pose[:3], self._low, self._high, strict=True)
        return max(max(low - x, x - high) for x, low, high in sides)
