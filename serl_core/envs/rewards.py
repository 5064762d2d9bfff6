"""How a step is judged: a sparse reward of 1 on success, and why the episode ended."""

from typing import NamedTuple

import numpy as np

from serl_core.config import RewardConfig, RewardKind, TaskConfig
from serl_core.envs.task import Task
from serl_core.errors import ConfigError
from serl_core.geometry import distance
from serl_core.robots.messages import Mode, RobotState
from serl_core.types import EndReason, Observation


class Verdict(NamedTuple):
    """The outcome of one step."""

    reward: float
    end: EndReason


def judge(
    task: Task,
    observation: Observation,
    state: RobotState,
    steps: int,
    *,
    has_faulted: bool,
    is_blind: bool = False,
    has_policy_failed: bool = False,
    success: bool | None = None,
) -> Verdict:
    """Return the reward and end of the step that led to `state`.

    A stop or a fault outranks success, because what the arm reads then is not the policy's doing; and
    success outranks the time limit, so that a success on the very last step counts.

    Args:
        steps: taken in this episode, this one included.
        has_faulted: the robot refused the step because it is stopped or in a fault.
        is_blind: a camera had no new picture.
        has_policy_failed: it gave no action.
        success: what the classifier found, where that is the task's reward.
    """
    if state.mode is Mode.STOPPED:
        return Verdict(0.0, EndReason.OPERATOR_STOP)
    if has_faulted or state.mode is Mode.FAULT:
        return Verdict(0.0, EndReason.ROBOT_FAULT)
    if is_blind:
        return Verdict(0.0, EndReason.CAMERA_FAULT)
    if has_policy_failed:
        return Verdict(0.0, EndReason.POLICY_FAULT)
    if is_success(task, observation, state) if success is None else success:
        return Verdict(1.0, EndReason.SUCCESS)
    if steps >= task.config.time_limit_steps:
        return Verdict(0.0, EndReason.TIME_LIMIT)
    return Verdict(0.0, EndReason.RUNNING)


def is_success(task: Task, observation: Observation, state: RobotState) -> bool:
    """Return whether the task is done, by its own function or else by the config's RewardKind.

    Raises:
        ConfigError: the simulator's truth is asked for and there is none.
    """
    if task.is_success is not None:
        return task.is_success(observation, state)
    if task.config.reward.kind is RewardKind.POSE:
        return _is_at_target(task.config, task.config.reward, state)
    if state.truth is None:
        raise ConfigError(
            f"RewardConfig.kind: task {task.config.name!r} asks for sim_truth, and this robot is not simulated; "
            "use pose, or give the task an is_success function"
        )
    return state.truth.is_success


def _is_at_target(config: TaskConfig, reward: RewardConfig, state: RobotState) -> bool:
    apart_m, apart_rad = distance(np.array(config.target_pose), np.array(state.tcp_pose))
    return bool(apart_m <= reward.tolerance_m and apart_rad <= reward.tolerance_rad)
