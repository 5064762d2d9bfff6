"""The speed of the arm itself: a set-point within its limit is not enough, for the arm swings past it on its spring.

The pull of the spring grows with the set-point's lead over the arm. So the faster the arm moves, the less lead the
set-point may have, down to none at the speed that must not be exceeded: there the spring only brakes. The speed of a
moment ahead counts, for the law follows the set-point through a filter, and an arm may shoot off a part that gives way.
"""

import math

from robot_servers.backend import Floats
from robot_servers.kernel_parts.slew import MAX_TICK_S
from robot_servers.limits import SafetyLimits
from serl_core.robots.messages import Vector3

EXCESS = 1.05  # of the speed limit: measured no faster than that
FREE = 0.88  # of the speed limit: slower than that, nothing is changed
LARGEST_LEAD_M = (
    0.03  # just above FREE: the widest clip, and what the filter of the set-point lags behind at full speed
)
AHEAD_S = 0.02  # the time constant of that filter
RATE_FILTER_S = 0.005  # of the change of speed, first order: noise must not look like a jolt


class SpeedGovernor:
    """Bounds the lead of the set-point by the speed measured at the tool."""

    def __init__(self, limits: SafetyLimits) -> None:
        """Store."""
        self._free_m_s = FREE * limits.speed_m_s
        self._most_m_s = EXCESS * limits.speed_m_s
        self._last_m_s = 0.0
        self._rate_m_s2 = 0.0

    def bounded(self, set_point_m: Vector3, measured_m: Vector3, velocity_m_s: Floats, dt_s: float) -> Vector3:
        """Return a set-point [3] no further ahead of the arm, along its motion, than its speed allows.

        Args:
            set_point_m: where it would be.
            measured_m: where the tool is.
            velocity_m_s: of the tool.
            dt_s: since the last call.
        """
        vx, vy, vz = velocity_m_s.tolist()
        speed_m_s = math.hypot(vx, vy, vz)
        ahead_m_s = self._ahead_m_s(speed_m_s, dt_s)
        if ahead_m_s <= self._free_m_s or speed_m_s == 0.0:
            return set_point_m
        (x, y, z), (ax, ay, az) = set_point_m, measured_m
        ux, uy, uz = vx / speed_m_s, vy / speed_m_s, vz / speed_m_s
        lead_m = (x - ax) * ux + (y - ay) * uy + (z - az) * uz
        most_m = LARGEST_LEAD_M * (self._most_m_s - ahead_m_s) / (self._most_m_s - self._free_m_s)
        excess_m = lead_m - max(most_m, 0.0)
        if excess_m <= 0.0:
            return set_point_m
        return (x - excess_m * ux, y - excess_m * uy, z - excess_m * uz)

    def _ahead_m_s(self, speed_m_s: float, dt_s: float) -> float:
        """Return the speed at which an arm that goes faster and faster will be in a moment; 0 where it is not known."""
        if not (math.isfinite(speed_m_s) and dt_s > 0.0):
            return 0.0
        share = min(dt_s, MAX_TICK_S) / (RATE_FILTER_S + min(dt_s, MAX_TICK_S))
        self._rate_m_s2 += share * ((speed_m_s - self._last_m_s) / dt_s - self._rate_m_s2)
        self._last_m_s = speed_m_s
        return speed_m_s + AHEAD_S * max(0.0, self._rate_m_s2)
