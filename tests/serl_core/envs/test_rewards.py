import dataclasses

import msgspec
import numpy as np
import pytest

from examples.ram_insertion import CONFIG, TASK
from serl_core.config import RewardConfig, RewardKind
from serl_core.envs.rewards import judge
from serl_core.errors import ConfigError
from serl_core.robots.messages import Mode
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason, Observation

AWAY = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose).state()
THERE = FakeRobot(CONFIG.target_pose, CONFIG.target_pose).state()
LAST = CONFIG.time_limit_steps
OBSERVATION = Observation(proprio=np.zeros(18, np.float32))
BY_POSE = dataclasses.replace(TASK, config=dataclasses.replace(CONFIG, reward=RewardConfig(kind=RewardKind.POSE)))


def verdict(state, *, task=TASK, steps=5, has_faulted=False):
    return judge(task, OBSERVATION, state, steps, has_faulted=has_faulted)


def test_nothing_is_paid_on_the_way():
    assert verdict(AWAY) == (0.0, EndReason.RUNNING)


def test_success_pays_one_and_ends_the_episode():
    assert verdict(THERE) == (1.0, EndReason.SUCCESS)


def test_a_success_on_the_last_step_is_a_success_and_not_a_time_limit():
    """Fault 9 of earlier systems: success was missed when something else fell on the same step."""
    assert verdict(THERE, steps=LAST) == (1.0, EndReason.SUCCESS)


def test_the_time_limit_comes_with_the_last_step_and_not_before():
    assert verdict(AWAY, steps=LAST - 1).end is EndReason.RUNNING
    assert verdict(AWAY, steps=LAST) == (0.0, EndReason.TIME_LIMIT)


@pytest.mark.parametrize("state", [AWAY, THERE])
@pytest.mark.parametrize("steps", [5, LAST])
def test_a_stop_or_a_fault_is_never_a_true_end_and_never_a_success(state, steps):
    """Fault 6 of earlier systems: they were stored as terminal, or as success."""
    stopped = verdict(msgspec.structs.replace(state, mode=Mode.STOPPED), steps=steps, has_faulted=True)
    assert stopped == (0.0, EndReason.OPERATOR_STOP)
    assert verdict(msgspec.structs.replace(state, mode=Mode.FAULT), steps=steps) == (0.0, EndReason.ROBOT_FAULT)
    assert verdict(state, steps=steps, has_faulted=True) == (0.0, EndReason.ROBOT_FAULT)


def test_without_a_simulator_the_pose_can_be_the_judge():
    real = {"truth": None}
    assert verdict(msgspec.structs.replace(THERE, **real), task=BY_POSE).end is EndReason.SUCCESS
    assert verdict(msgspec.structs.replace(AWAY, **real), task=BY_POSE).end is EndReason.RUNNING


def test_a_pose_beyond_either_tolerance_is_no_success():
    x, y, z, *rotation = CONFIG.target_pose
    beside = (x + 1.01 * CONFIG.reward.tolerance_m, y, z, *rotation)
    half = 0.5 * 1.01 * CONFIG.reward.tolerance_rad
    turned = (x, y, z, np.cos(half), np.sin(half), 0.0, 0.0)
    for pose in (beside, turned):
        assert verdict(msgspec.structs.replace(THERE, tcp_pose=pose), task=BY_POSE).end is EndReason.RUNNING


def test_a_task_may_judge_by_its_own_function():
    task = dataclasses.replace(TASK, is_success=lambda observation, state: state.gripper > 0.5)
    assert verdict(AWAY, task=task).end is EndReason.SUCCESS
    assert verdict(msgspec.structs.replace(AWAY, gripper=0.1), task=task).end is EndReason.RUNNING


def test_the_simulators_truth_cannot_be_asked_of_a_real_arm():
    with pytest.raises(ConfigError, match=r"'ram_insertion' asks for sim_truth.*not simulated; use pose"):
        verdict(msgspec.structs.replace(AWAY, truth=None))
