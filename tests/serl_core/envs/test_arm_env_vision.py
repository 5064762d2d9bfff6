import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from examples.ram_insertion import CONFIG
from serl_core.clock import ManualClock, Rate
from serl_core.config import ObservationConfig, PoseFrame, RewardConfig, RewardKind
from serl_core.envs.arm_env import ArmEnv
from serl_core.envs.task import Task
from serl_core.envs.vision import Sight
from serl_core.errors import CameraFault, ConfigError, RobotError
from serl_core.image_config import CameraConfig
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
    assert robot.calls[-2:] == ["step", "hold"]


def test_a_blind_step_has_no_verdict_of_the_picture_before():
    vision = FakeVision([1.0] * 9, threshold=0.5)
    env, _ = opened(vision, reward=RewardConfig(kind=RewardKind.CLASSIFIER, frames=3))
    env.reset()
    assert env.step(STILL)[4]["is_classified"] is True
    vision.is_broken = True
    assert env.step(STILL)[4]["is_classified"] is None


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


def test_a_picture_votes_once_however_often_it_is_looked_at():
    """A camera slower than the loop: one picture, 0.5 s old at most, ended the episode as a success."""
    vision = FakeVision([0.0, 0.0, 0.9, 0.95], threshold=0.8)
    env, _ = opened(vision, reward=RewardConfig(kind=RewardKind.CLASSIFIER, frames=2))
    env.reset()
    look = vision.look
    vision.look = lambda: sight
    sight = look()
    ends = [env.step(STILL)[4]["end"] for _ in range(4)]
    sight = look()
    ends.append(env.step(STILL)[4]["end"])
    assert ends == [EndReason.RUNNING] * 4 + [EndReason.SUCCESS]


def test_the_picture_that_the_reset_ended_with_does_not_vote():
    vision = FakeVision([0.0, 0.9, 0.9], threshold=0.8)
    env, _ = opened(vision, reward=RewardConfig(kind=RewardKind.CLASSIFIER, frames=1))
    env.reset()
    look, seen = vision.look, env._sight
    vision.look = lambda: seen
    _, reward, _, _, info = env.step(STILL)
    assert (reward, info["end"], info["is_classified"]) == (0.0, EndReason.RUNNING, True)
    vision.look = look
    assert env.step(STILL)[4]["end"] is EndReason.SUCCESS


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


@pytest.mark.parametrize("broken", ["cameras", "health"])
def test_an_environment_that_cannot_be_opened_gives_the_robot_back(broken, monkeypatch):
    """The lease was kept: the next program found the arm taken until it ran out."""

    def fail(*_):
        raise (CameraFault if broken == "cameras" else RobotError)("it is not there")

    vision = FakeVision()
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose)
    monkeypatch.setattr(*((vision, "open") if broken == "cameras" else (robot, "health")), fail)
    env = ArmEnv(task(), robot, vision=vision)
    with pytest.raises((CameraFault, RobotError), match="not there"):
        env.open()
    assert robot.calls == ["connect", "close"]
    assert not vision.is_open


class SlowCamera:
    """Gives a picture each 0.1 s of its clock, as old as its exposure; `known` says whether it tells its time."""

    success_threshold = None

    def __init__(self, clock, known=True):
        self.clock, self.known = clock, known
        self.sights = {}
        self.is_stuck = False

    def open(self, robot):
        pass

    def close(self):
        pass

    def look(self):
        tick = 0 if self.is_stuck else int(self.clock() / 0.1 + 1e-9)
        image = np.full((32, 32, 3), 10 + tick, np.uint8)
        sight = Sight({"wrist": image}, captured_s=0.1 * tick - 0.03 if self.known else None)
        return self.sights.setdefault(tick, sight)


def teleported(*, is_lockstep=False, known=True, is_teleport=True):
    """Return what a reset at 1.05 s has to do with: at 1.1 s comes a picture of 1.07 s, the first of afterwards."""
    clock = ManualClock(1.05)
    robot = FakeRobot(CONFIG.reset.pose, CONFIG.target_pose, is_lockstep=is_lockstep)
    vision = SlowCamera(clock, known)
    config = task(reset=dataclasses.replace(CONFIG.reset, is_teleport=is_teleport))
    env = ArmEnv(config, robot, vision=vision, rate=Rate(10.0, clock), now=clock, sleep=clock.advance)
    env.open()
    return SimpleNamespace(env=env, vision=vision, clock=clock)


def test_after_a_teleport_in_real_time_the_first_picture_is_of_where_the_arm_is_now():
    """The arm is elsewhere at once, and the newest picture was of where it had been."""
    scene = teleported()
    observation, _ = scene.env.reset()
    assert observation["images"]["wrist"][0, 0, 0] == 10 + 11
    assert scene.clock() == pytest.approx(1.1)


def test_a_new_picture_from_before_the_teleport_is_not_enough():
    """It may have been on its way meanwhile."""
    scene = teleported()
    scene.clock.advance(0.03)  # the picture of 1.1 s shows what was there at 1.07 s
    observation, _ = scene.env.reset()
    assert observation["images"]["wrist"][0, 0, 0] == 10 + 12


def test_nobody_waits_longer_for_that_than_a_picture_may_be_old():
    scene = teleported()
    scene.vision.is_stuck = True
    scene.env.reset()
    assert scene.clock() == pytest.approx(1.55, abs=0.011)


@pytest.mark.parametrize("options", [{"is_lockstep": True}, {"known": False}, {"is_teleport": False}])
def test_where_the_picture_is_of_now_or_cannot_tell_nobody_waits(options):
    scene = teleported(**options)
    scene.env.reset()
    assert scene.clock() == 1.05


def test_closing_stops_the_cameras_before_the_robot():
    vision = FakeVision()
    env, robot = opened(vision)
    assert vision.is_open
    env.close()
    assert not vision.is_open
    assert robot.calls[-1] == "close"
