"""The ends and speeds of the joints, and what keeps the joints off their ends (SAFETY 1.4.6)."""

import math

import numpy as np
from numpy.typing import NDArray

from robot_servers.backend import JointLimits
from robot_servers.sim.model import LINKS
from serl_core.robots.messages import Vector7

Floats = NDArray[np.float64]

MARGIN_RAD = 0.1
LARGEST_TORQUE_NM = 5.0

_SPEED_RAD_S: Vector7 = (2.075, 2.075, 2.075, 2.075, 2.51, 2.51, 2.51)  # 0.1 below the Panda's own limits

LIMITS = JointLimits(
    low_rad=tuple(link.range_rad[0] for link in LINKS),
    high_rad=tuple(link.range_rad[1] for link in LINKS),
    speed_rad_s=_SPEED_RAD_S,
)
_LOW = np.array(LIMITS.low_rad) + MARGIN_RAD
_HIGH = np.array(LIMITS.high_rad) - MARGIN_RAD
_MIDDLE = ((_LOW + _HIGH) / 2).tolist()
_REACH_RAD = float((_HIGH - _LOW).min()) / 2  # all joints are off their margins in this ball about the middle
_NONE = np.zeros(7)
_NONE.flags.writeable = False


def repulsion(q: Floats) -> Floats:
    """Return the torque [7] in Nm away from the limits: 0 at the margin, rising to 5 Nm at the limit and beyond."""
    if math.dist(q.tolist(), _MIDDLE) < _REACH_RAD:
        return _NONE
    share = (np.maximum(_LOW - q, 0.0) - np.maximum(q - _HIGH, 0.0)) / MARGIN_RAD
    return LARGEST_TORQUE_NM * np.minimum(np.maximum(share, -1.0), 1.0)
