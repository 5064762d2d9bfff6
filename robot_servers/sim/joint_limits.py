"""What keeps the joints off their ends (SAFETY 1.4.6)."""

import numpy as np
from numpy.typing import NDArray

from robot_servers.sim.model import LINKS

Floats = NDArray[np.float64]

MARGIN_RAD = 0.1
LARGEST_TORQUE_NM = 5.0

_LOW = np.array([link.range_rad[0] for link in LINKS]) + MARGIN_RAD
_HIGH = np.array([link.range_rad[1] for link in LINKS]) - MARGIN_RAD


def repulsion(q: Floats) -> Floats:
    """Return the torque [7] in Nm away from the limits: 0 at the margin, rising to 5 Nm at the limit and beyond."""
    share = (np.maximum(_LOW - q, 0.0) - np.maximum(q - _HIGH, 0.0)) / MARGIN_RAD
    return LARGEST_TORQUE_NM * np.minimum(np.maximum(share, -1.0), 1.0)
