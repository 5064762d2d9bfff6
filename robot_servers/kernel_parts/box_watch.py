"""The workspace box against the measured pose: how far outside is too far (SAFETY 1.4.2)."""

from robot_servers.limits import SafetyLimits
from serl_core.robots.messages import Vector7

FURTHER_OUT_M = 0.005  # after a recovery out there: latch again only there


class BoxWatch:
    """Outside by `box_exit_m` is too far, and after a recovery out there a little further than it was then."""

    def __init__(self, limits: SafetyLimits) -> None:
        """Store."""
        self._low = tuple(low - limits.box_exit_m for low in limits.box_low_m)
        self._high = tuple(high + limits.box_exit_m for high in limits.box_high_m)
        self._further_m = 0.0  # beyond these, after a recovery out there

    def is_too_far(self, pose: Vector7) -> bool:
        """Take note of a measured pose."""
        beyond_m = self._beyond_m(pose)
        if beyond_m <= 0.0:
            self._further_m = 0.0
            return False
        return beyond_m > self._further_m

    def forget(self) -> None:
        """Take note of a pose well inside: any recovery outside is over."""
        self._further_m = 0.0

    def recover(self, pose: Vector7) -> None:
        """Let the arm come back from `pose`, and go hardly further out."""
        self._further_m = max(0.0, self._beyond_m(pose)) + FURTHER_OUT_M

    def _beyond_m(self, pose: Vector7) -> float:
        """Return how far a pose is beyond where the arm is latched; negative inside."""
        sides = zip(pose[:3], self._low, self._high, strict=True)
        return max(max(low - x, x - high) for x, low, high in sides)
