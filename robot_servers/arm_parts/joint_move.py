"""A straight, minimum-jerk move in joint space whose tool stays below a speed: the joint reset of a driver."""

import math
from collections.abc import Sequence

import numpy as np

from robot_servers.arm_parts.kinematics_panda import jacobian
from robot_servers.backend import Floats

JOINT_SPEED_RAD_S = 0.6  # of the fastest joint, at its peak
TOOL_SPEED_SHARE = 0.9  # of the speed limit: sampling may miss the very peak
SHORTEST_S = 0.2
PEAK = 1.875  # of a minimum-jerk move's speed to its mean
SAMPLES = 20  # of the path, where the tool's speed is looked at

BLOCKED_RAD = 0.1  # a joint this far behind,
BLOCKED_S = 0.5  # for this long, is held back by something


class JointMove:
    """From one posture to another.

    Attributes:
        duration_s: of the whole move.
        is_blocked: something holds the arm back.
    """

    def __init__(self, start_rad: Sequence[float], goal_rad: Sequence[float], tool_speed_m_s: float) -> None:
        self.is_blocked = False
        self.goal = np.array(goal_rad, dtype=float)
        self._start = np.array(start_rad, dtype=float)
        self._way = self.goal - self._start
        self._behind_s = 0.0
        tool_way_m = max(
            float(np.linalg.norm(jacobian((self._start + share * self._way).tolist())[:3] @ self._way))
            for share in np.linspace(0.0, 1.0, SAMPLES)
        )
        joint_s = float(np.abs(self._way).max()) / JOINT_SPEED_RAD_S
        self.duration_s = max(SHORTEST_S, PEAK * max(joint_s, tool_way_m / (TOOL_SPEED_SHARE * tool_speed_m_s)))

    def at(self, elapsed_s: float) -> tuple[Floats, Floats]:
        """Return the angles [7] in rad and speeds [7] in rad/s that are due; after the end, the goal at rest."""
        t = min(max(elapsed_s / self.duration_s, 0.0), 1.0)
        share = t**3 * (10.0 - 15.0 * t + 6.0 * t * t)
        rate = 30.0 * t * t * (1.0 - t) ** 2 / self.duration_s
        return self._start + share * self._way, rate * self._way

    def watch(self, elapsed_s: float, q: Floats, dt_s: float) -> None:
        """Take note of the measured angles: `is_blocked` when they stay behind."""
        behind = float(np.abs(self.at(elapsed_s)[0] - q).max())
        self._behind_s = self._behind_s + dt_s if behind > BLOCKED_RAD else 0.0
        self.is_blocked = self.is_blocked or self._behind_s > BLOCKED_S

    def error_rad(self, q: Floats) -> float:
        """Return the largest distance of a joint from the goal; infinite for a reading that is not finite."""
        error = float(np.abs(self.goal - q).max())
        return error if math.isfinite(error) else math.inf
