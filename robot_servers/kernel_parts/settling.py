"""The end of a motion that was cut off: the arm comes to rest where its swing ends, and hardly springs back.

A hold puts the set-point where the arm is. One that moves then swings out by millimetres, which spring and damping
brake, and would be pulled back for as long again. So whenever the arm begins to come back, the set-point follows to
where it is: the spring takes energy out of the swing and gives none back. Meanwhile the spring pulls against the motion
as a damper would, within its clip as always.
"""

import math

import numpy as np

from robot_servers.backend import Floats, Reference
from serl_core.robots.messages import Vector3

MOVING_M_S = 0.06  # slower than that there is no swing to speak of
LONGEST_S = 0.25  # a later push is somebody's hand, and a hold does not give way to it
SMALLEST_M = 0.0002  # of a swing
BRAKING_S = 0.04  # so far in time what the law is told lies behind the arm: 80 Ns/m at 2000 N/m


class Settling:
    """Watches an arm from a hold in motion on.

    Attributes:
        is_on: it may still swing.
    """

    def __init__(self) -> None:
        """Watch nothing."""
        self.is_on = False
        self._until_s = 0.0
        self._is_outward = False

    def begin(self, velocity_m_s: Floats, now_s: float) -> None:
        """Take note of the velocity [3] of the tool at a hold."""
        self.is_on = float(velocity_m_s @ velocity_m_s) > MOVING_M_S**2
        self._until_s = now_s + LONGEST_S
        self._is_outward = False

    def end(self) -> None:
        """Watch no more."""
        self.is_on = False

    def comes_back(self, measured_m: Vector3, anchor_m: Vector3, velocity_m_s: Floats, now_s: float) -> bool:
        """Return whether the tool is at the end of a swing: it went away from the set-point, and does no more."""
        self.is_on = now_s < self._until_s
        away = np.subtract(measured_m, anchor_m)
        was_outward, self._is_outward = self._is_outward, float(away @ velocity_m_s) > 0.0
        return was_outward and not self._is_outward and float(away @ away) > SMALLEST_M**2

    def braked(self, held: Reference, velocity_m_s: Floats) -> Reference:
        """Return what the law is told while the arm swings: behind the held place, by more the faster it moves."""
        if not math.isfinite(velocity_m_s.sum()):
            return held
        return Reference(held.position_m - BRAKING_S * velocity_m_s, held.quaternion)
