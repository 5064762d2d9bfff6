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
from serl_core.geometry import increment
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
        is_teleport=True,
    ),
    action=ActionConfig(translation_m=0.015, rotation_rad=0.06),
    observation=ObservationConfig(pose_frame=PoseFrame.TARGET),
)

# Heights of the stick's lower end above the socket's rim.
HOVER_LOW_M, HOVER_HIGH_M = 0.010, 0.022  # where the expert waits until the stick is aligned
ALIGNED_M, ALIGNED_RAD = 0.0016, 0.03
MISALIGNED_M = 0.003  # near the rim: better go up again


def expert(state: RobotState) -> NDArray[np.float32]:
    """Return what a patient human would do: align above the socket, then press down; back off when askew.

    Half of the error across the socket is taken back in each step. Tool frame: z points down.
    """
    measured, target = np.array(state.tcp_pose), np.array(TARGET_POSE)
    action = 0.5 * target_to_action(target, measured, CONFIG.action)
    x_m, y_m, remaining_m, _, _, turn_rad = increment(measured, target)
    across_m = math.hypot(x_m, y_m)
    height_m = remaining_m - SOCKET_DEPTH_M
    action[2] = _descent(across_m, abs(turn_rad), height_m)
    return np.clip(action, -1.0, 1.0).astype(np.float32)


def _descent(across_m: float, turn_rad: float, height_m: float) -> float:
    """Return the action along the tool: 1 is down at full speed."""
    if across_m < ALIGNED_M and turn_rad < ALIGNED_RAD:
        return 0.8
    if height_m > HOVER_HIGH_M:
        return 0.3
    if height_m < HOVER_LOW_M and across_m > MISALIGNED_M:
        return -0.3
    return 0.0


TASK = Task(config=CONFIG, expert=expert)
