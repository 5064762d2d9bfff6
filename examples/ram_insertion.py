"""RAM insertion: push a stick of 60 x 5 mm, held in the hand, into a socket with 0.5 mm clearance per side.

The start is randomised by 4 cm in x and y and 6 degrees about z, as in the paper (HIL-SERL, arXiv
2410.21845, table 1). The policy sees the tool's pose relative to the target, its twist and the wrench,
and moves the tool in all six directions. The episode ends when the stick is fully inserted.
"""

import math

import numpy as np
from numpy.typing import NDArray

from serl_core.config import (
    ActionConfig,
    ObservationConfig,
    PoseFrame,
    ResetConfig,
    SafetyBox,
    TaskConfig,
)
from serl_core.envs.frames import target_to_action
from serl_core.envs.task import Task
from serl_core.geometry import increment, twist_to_local
from serl_core.robots.messages import RobotState

# The simulator's scene has the same numbers; a test compares them.
TARGET_POSE = (0.5, 0.0, 0.058, 1.0, 0.0, 0.0, 0.0)  # the tool's, with the stick on the socket's floor
SOCKET_DEPTH_M = 0.015

CONFIG = TaskConfig(
    name="ram_insertion",
    scene="ram_insertion",
    time_limit_steps=100,
    box=SafetyBox(low_m=(0.44, -0.06, 0.045), high_m=(0.56, 0.06, 0.14)),
    target_pose=TARGET_POSE,
    reset=ResetConfig(
        pose=(0.5, 0.0, 0.12, 1.0, 0.0, 0.0, 0.0),
        randomise_m=(0.04, 0.04, 0.0),
        randomise_rz_rad=math.radians(6.0),
        lift_to_z_m=0.12,
    ),
    action=ActionConfig(translation_m=0.015, rotation_rad=0.06),
    observation=ObservationConfig(pose_frame=PoseFrame.TARGET),
)

HOVER_M = 0.004  # height of the stick's lower end above the rim at which the expert waits until it is aligned
INSIDE_M = -0.003
BESIDE_M = 0.005  # inside the socket the stick cannot be so far off
CLEAR_M = 0.002  # height of a stick that can pass over the rim
ALIGNED_M, ALIGNED_RAD = 0.0012, 0.02
JAMMED_N = 8.0


def expert(state: RobotState) -> NDArray[np.float32]:
    """Return what a patient human would do: align above the socket, lower gently, press once it is inside.

    Half of the error across the socket is taken back in each step; on the rim it lifts and tries
    again. A stick that was pushed down beside the socket is pulled straight up first. Tool frame: z points down.
    """
    measured, target = np.array(state.tcp_pose), np.array(TARGET_POSE)
    to_target = increment(measured, target)
    off_m, height_m = np.hypot(*to_target[:2]), to_target[2] - SOCKET_DEPTH_M
    action = 0.5 * target_to_action(target, measured, CONFIG.action)
    if off_m > BESIDE_M and height_m < CLEAR_M:
        action[:3] = 0.0, 0.0, -1.0
    else:
        action[2] = _descent(
            height_m=height_m,
            is_aligned=bool(off_m < ALIGNED_M and np.linalg.norm(to_target[3:]) < ALIGNED_RAD),
            push_n=-twist_to_local(measured[3:], np.array(state.tcp_wrench))[2],
        )
    return np.clip(action, -1.0, 1.0).astype(np.float32)


def _descent(height_m: float, is_aligned: bool, push_n: float) -> float:
    """Return the action along the tool: 1 is down at full speed.

    Args:
        height_m: of the stick's lower end above the socket's rim.
        push_n: with which the world pushes the tool back.
    """
    if height_m < INSIDE_M:
        return 0.8
    if push_n > JAMMED_N:
        return -0.3
    if is_aligned:
        return 0.3
    return float(np.clip((height_m - HOVER_M) / CONFIG.action.translation_m, 0.0, 0.3))


TASK = Task(config=CONFIG, expert=expert)
