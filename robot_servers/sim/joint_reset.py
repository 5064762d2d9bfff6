"""The slow joint-space move to the rest posture."""

import numpy as np
from numpy.typing import NDArray

from robot_servers.sim.kinematics import JOINTS
from robot_servers.sim.model import PERIOD_S, REST_Q

Floats = NDArray[np.float64]

SPEED_RAD_S = 0.2  # of the joint with the longest way: the tool stays below 0.25 m/s
CLIP_RAD = 0.05  # the spring pulls no harder than at this error, whatever is in the way: 30 Nm
BLOCKED_RAD = 0.1  # a joint this far behind,
BLOCKED_S = 0.5  # for this long, is held back by something

# libfranka's joint impedance example
STIFFNESS_NM_RAD = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)
DAMPING_NMS_RAD = (50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0)


class JointReset:
    """A spring and damper in joint space about a reference that goes straight to the rest posture, then stays.

    Attributes:
        is_blocked: something holds the arm back.
    """

    def __init__(self, start_rad: Floats) -> None:
        self._start = start_rad.copy()
        self._way = np.array(REST_Q) - start_rad
        self._duration_s = max(float(np.abs(self._way).max()) / SPEED_RAD_S, PERIOD_S)
        self._elapsed_s = 0.0
        self._behind_s = 0.0
        self.is_blocked = False
        self._stiffness = np.array(STIFFNESS_NM_RAD)
        self._damping = np.array(DAMPING_NMS_RAD)

    def torque(self, q: Floats, dq: Floats) -> Floats:
        """Move on by one tick and return the torque [7] in Nm, without compensation of gravity."""
        self._elapsed_s = min(self._elapsed_s + PERIOD_S, self._duration_s)
        reference = self._start + self._way * (self._elapsed_s / self._duration_s)
        moving = self._elapsed_s < self._duration_s
        speed = self._way / self._duration_s if moving else np.zeros(JOINTS)
        error = reference - q
        self._behind_s = self._behind_s + PERIOD_S if np.abs(error).max() > BLOCKED_RAD else 0.0
        self.is_blocked = self.is_blocked or self._behind_s > BLOCKED_S
        return self._stiffness * np.clip(error, -CLIP_RAD, CLIP_RAD) + self._damping * (speed - dq)

    def error_rad(self, q: Floats) -> float:
        """Return the largest distance of a joint from the rest posture."""
        return float(np.abs(np.array(REST_Q) - q).max())
