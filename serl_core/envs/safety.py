"""Keeps targets inside the task's box and tilt cone, on the actor. The robot server checks its own again."""

import numpy as np
from jaxtyping import Float

from serl_core.config import SafetyBox
from serl_core.geometry import limit_tilt

Pose = Float[np.ndarray, "7"]


def clip_target(target: Pose, box: SafetyBox) -> Pose:
    """Return the nearest pose to `target` that the box allows: position per axis, tilt the shortest way."""
    position = np.clip(target[:3], box.low_m, box.high_m)
    quaternion = limit_tilt(target[3:], box.max_tilt_rad)
    return np.concatenate([position, quaternion])
