"""Where the joints of a Franka arm are, and the Jacobian of its tool, without a simulator: numpy alone.

FER (Panda) and FR3 have the same frames. For drivers whose arm does not send a Jacobian.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from robot_servers.backend import Floats
from serl_core.robots.messages import Vector3, Vector7

JOINTS = 7
FLANGE_M = 0.107  # from joint 7 along its axis
HAND_TURN_RAD = -math.pi / 4  # of Franka's hand on the flange, about z
TCP_M = 0.1034  # of Franka's hand, beyond the flange

REST_Q: Vector7 = (0.0, 0.0, 0.0, -1.9, 0.0, 1.9, math.pi / 4)
"""The rest posture in rad, as the simulator's: the hand straight down, the tool's x axis along the base's."""

# Parent to joint (REFERENCE section 5): origin in m, turn about x in quarters.
_FRAMES: tuple[tuple[Vector3, int], ...] = (
    ((0.0, 0.0, 0.333), 0),
    ((0.0, 0.0, 0.0), -1),
    ((0.0, -0.316, 0.0), 1),
    ((0.0825, 0.0, 0.0), 1),
    ((-0.0825, 0.384, 0.0), -1),
    ((0.0, 0.0, 0.0), 1),
    ((0.088, 0.0, 0.0), 1),
)


class JointAxes(NamedTuple):
    """The joints at one posture, base frame."""

    origins_m: Floats  # [7, 3]
    axes: Floats  # [7, 3], unit
    flange: Floats  # [4, 4], T_base_flange


def joint_axes(q: Sequence[float]) -> JointAxes:
    """Return where the joints are at the angles `q` [7] in rad."""
    origins, axes = np.empty((JOINTS, 3)), np.empty((JOINTS, 3))
    matrix = np.eye(4)
    for i, ((origin, quarter), angle) in enumerate(zip(_FRAMES, q, strict=True)):
        matrix = matrix @ _joint(origin, quarter, angle)
        origins[i], axes[i] = matrix[:3, 3], matrix[:3, 2]
    matrix[:3, 3] += FLANGE_M * matrix[:3, 2]
    return JointAxes(origins, axes, matrix)


def jacobian(q: Sequence[float], tcp_m: Floats | None = None) -> Floats:
    """Return the Jacobian [6, 7] of the tool centre point, base frame: linear rows, then angular ones.

    Args:
        q: joint angles in rad [7].
        tcp_m: where the tool centre point is in the base frame [3]; that of Franka's hand if None.
    """
    origins, axes, flange = joint_axes(q)
    if tcp_m is None:
        tcp_m = flange[:3, 3] + TCP_M * flange[:3, 2]
    return np.concatenate([np.cross(axes, tcp_m - origins), axes], axis=1).T


def hand_pose(q: Sequence[float]) -> Floats:
    """Return T_base_tcp [4, 4] of Franka's hand at the angles `q` [7] in rad."""
    flange = joint_axes(q).flange
    cosine, sine = math.cos(HAND_TURN_RAD), math.sin(HAND_TURN_RAD)
    hand = np.array([[cosine, -sine, 0.0, 0.0], [sine, cosine, 0.0, 0.0], [0.0, 0.0, 1.0, TCP_M], [0.0, 0.0, 0.0, 1.0]])
    pose: Floats = flange @ hand
    return pose


def _joint(origin_m: Vector3, quarter: int, angle: float) -> Floats:
    """Return the transform to a joint's frame: offset, a turn about x by `quarter` right angles, `angle` about z."""
    cosine, sine = math.cos(angle), math.sin(angle)
    x, y, z = origin_m
    if quarter == 0:
        return np.array([[cosine, -sine, 0.0, x], [sine, cosine, 0.0, y], [0.0, 0.0, 1.0, z], [0.0, 0.0, 0.0, 1.0]])
    s = float(quarter)
    return np.array([[cosine, -sine, 0.0, x], [0.0, 0.0, -s, y], [s * sine, s * cosine, 0.0, z], [0.0, 0.0, 0.0, 1.0]])
