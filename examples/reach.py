"""Reach: bring the tool to a pose in free space. The first task on a new arm: it needs no part, no camera and no touch.

The start is randomised by 10 cm in x and y and 5 cm in z; success is the tool within 1 cm and 0.1 rad of the
target. `serl demo --backend franky-sim` runs it through libfranka, without an arm.
"""

import numpy as np
from numpy.typing import NDArray

from serl_core.config import (
    ActionConfig,
    ObservationConfig,
    PoseFrame,
    ResetConfig,
    RewardConfig,
    RewardKind,
    SafetyBox,
    TaskConfig,
)
from serl_core.envs.frames import target_to_action
from serl_core.envs.task import Task
from serl_core.robots.messages import RobotState

TARGET_POSE = (0.45, 0.0, 0.35, 1.0, 0.0, 0.0, 0.0)  # pointing straight down

CONFIG = TaskConfig(
    name="reach",
    time_limit_steps=60,
    box=SafetyBox(low_m=(0.33, -0.15, 0.25), high_m=(0.57, 0.15, 0.45)),
    target_pose=TARGET_POSE,
    reset=ResetConfig(pose=TARGET_POSE, randomise_m=(0.1, 0.1, 0.05), tolerance_m=0.01, tolerance_rad=0.06),
    action=ActionConfig(translation_m=0.02, rotation_rad=0.06),
    observation=ObservationConfig(pose_frame=PoseFrame.TARGET),
    reward=RewardConfig(kind=RewardKind.POSE, tolerance_m=0.01, tolerance_rad=0.1),
)


def expert(state: RobotState) -> NDArray[np.float32]:
    """Return the action straight towards the target, slower once it is near."""
    action = target_to_action(np.array(TARGET_POSE), np.array(state.tcp_pose), CONFIG.action)
    return (action / max(1.0, float(np.abs(action).max()))).astype(np.float32)


TASK = Task(config=CONFIG, expert=expert)
