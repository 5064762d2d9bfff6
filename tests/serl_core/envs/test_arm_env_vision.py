import dataclasses

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from examples.ram_insertion import CONFIG
from serl_core.config import CameraConfig, ObservationConfig, PoseFrame, RewardConfig, RewardKind
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.task import Task
from serl_core.envs.vision import Sight
from serl_core.errors import CameraFault, ConfigError
from serl_core.testing.fakes import FakeRobot
from serl_core.types import EndReason

STILL = np.zeros(6, np.float32)


class FakeVision:
    """Shows a grey picture that is brighter with each look, unless it stands still; gives probabilities in turn."""

    def __init__(self, probabilities=(), threshold=None, *, is_still=False):
        self.is_still = is_still
        self.success_threshold = threshold
        self.looks = 0
        self.is_broken = False
        self.is_open = False
        self._probabilities = list(probabilities)

    def open(self, robot):
        self.is_open = True

    def close(self):
        self.is_open = False

    def look(self):
        if self.is_broken:
            raise CameraFault("camera 'wrist': no new picture for 0.7 s, allowed is 0.5 s; look at its cable")
        self.looks += 1
        image = np.full((32, 32, 3), 7 if self.is_still else self.looks % 200, np.uint8)
        features = {"wrist": np.full((2, 2, 4), self.looks, np.float16)}
        return Sight({"wrist": image}, features, self._probabilities.pop(0) if self._probabilities else None)


def task(**changes):
    observation = ObservationConfig(
        pose_frame=PoseFrame.EPISODE_START, cameras=(CameraConfig(name="wrist", height=32, width=32),)
    )
    return Task(config=dataclasses.replace(CONFIG, observation=observation, **changes))


def opened(vision, **changes):
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    env = ArmEnv(task(**changes), robot, vision=vision)
    env.open()
    return env, robot


def test_gymnasium_checks_an_environment_with_cameras():
    env, _ = opened(FakeVision(is_still=True))
    check_env(env, skip_render_check=True)


def test_each_step_looks_once_and_the_policy_sees_that_picture():
    vision = FakeVision()
    env, _ = opened(vision)
    env.reset()
    before = vision.looks
    observation, *_ = env.step(STILL)
    assert vision.looks == before + 1
    assert observation["images"]["wrist"][0, 0, 0] == vision.looks
    assert env.observation.features["wrist"][0, 0, 0] == vision.looks


def test_a_blind_step_ends_the_episode_and_the_arm_is_told_to_stay():
    vision = FakeVision()
    env, robot = opened(vision)
    env.reset()
    env.step(np.array([0, 0, 1, 0, 0, 0], np.float32))
    vision.is_broken = True
    _, reward, terminated, truncated, info = env.step(np.array([0, 0, 1, 0, 0, 0], np.float32))
    assert info["end"] is EndReason.CAMERA_FAULT
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert robot.state().reference_pose == pytest.approx(robot.state().tcp_pose, abs=0.003)
    assert robot.calls[-2:] == ["step", "step"]


def test_a_blind_reset_moves_nothing():
    vision = FakeVision()
    env, robot = opened(vision)
    vision.is_broken = True
    calls = list(robot.calls)
    with pytest.raises(CameraFault, match="wrist"):
        env.reset()
    assert robot.calls == calls
    vision.is_broken = False
    env.reset()


def test_success_takes_several_frames_in_a_row():
    vision = FakeVision([0.0, 0.0, 0.9, 0.2, 0.9, 0.95], threshold=0.8)
    env, _ = opened(vision, reward=RewardConfig(kind=RewardKind.CLASSIFIER, frames=2))
    env.reset()
    ends = [env.step(STILL)[4]["end"] for _ in range(4)]
    assert ends == [EndReason.RUNNING] * 3 + [EndReason.SUCCESS]


def test_the_count_begins_anew_with_each_episode():
    vision = FakeVision([0.0, 0.0, 0.9, 0.0, 0.0, 0.9, 0.9], threshold=0.8)
    env, _ = opened(vision, reward=RewardConfig(kind=RewardKind.CLASSIFIER, frames=2))
    env.reset()
    assert env.step(STILL)[4]["end"] is EndReason.RUNNING
    env.reset()
    assert env.step(STILL)[4]["end"] is EndReason.RUNNING
    assert env.step(STILL)[4]["end"] is EndReason.SUCCESS


def test_a_high_tool_is_no_success_whatever_the_classifier_says():
    vision = FakeVision([1.0] * 9, threshold=0.5)
    height = CONFIG.reset.pose[2]
    env, _ = opened(vision, reward=RewardConfig(kind=RewardKind.CLASSIFIER, frames=1, tcp_z_m=(0.0, height - 0.01)))
    env.reset()
    _, _, _, _, info = env.step(STILL)
    assert info["end"] is EndReason.RUNNING
    assert info["success_probability"] == 1.0
    assert info["truth"] is False


def test_a_low_tool_is_no_success_either():
    height = CONFIG.reset.pose[2]
    for low_m, end in ((height + 0.01, EndReason.RUNNING), (height - 0.01, EndReason.SUCCESS)):
        reward = RewardConfig(kind=RewardKind.CLASSIFIER, frames=1, tcp_z_m=(low_m, height + 0.02))
        env, _ = opened(FakeVision([1.0] * 9, threshold=0.5), reward=reward)
        env.reset()
        assert env.step(STILL)[4]["end"] is end


def test_a_probability_that_is_no_number_is_no_success():
    vision = FakeVision([0.0, 0.0, float("nan")], threshold=0.5)
    env, _ = opened(vision, reward=RewardConfig(kind=RewardKind.CLASSIFIER, frames=1))
    env.reset()
    assert env.step(STILL)[4]["end"] is EndReason.RUNNING


def test_a_classifiers_task_without_a_classifier_is_refused_before_anything_moves():
    with pytest.raises(ConfigError, match="serl classifier"):
        opened(FakeVision(), reward=RewardConfig(kind=RewardKind.CLASSIFIER))


def test_closing_stops_the_cameras_before_the_robot():
    vision = FakeVision()
    env, robot = opened(vision)
    assert vision.is_open
    env.close()
    assert not vision.is_open
    assert robot.calls[-1] == "close"
